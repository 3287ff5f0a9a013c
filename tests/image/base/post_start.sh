# A base image's own hook, one that fails.
echo "the hook of the base"
exit 3
