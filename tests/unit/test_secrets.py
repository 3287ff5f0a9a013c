"""Credentials are found wherever they hide, and nothing else is taken for one. All of these are made up."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import pickle
import random
import string
import struct
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent import log
from agent.artifact import credentials, secrets
from agent.artifact.files import LocalFile
from agent.artifact.secrets import scan
from agent.hashes import Stamp
from tests.conftest import FIXTURES, ROOT
from tests.layouts import LAYOUTS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.artifact.findings import Finding

LETTERS = string.ascii_letters
ALNUM = LETTERS + string.digits
URLSAFE = ALNUM + "_-"
BASE64 = ALNUM + "+/"
DIGITS = "123456789"
HEX = "0123456789abcdef"
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits


def of(alphabet: str, length: int) -> st.SearchStrategy[str]:
    return st.integers(0, 2**64).map(lambda seed: "".join(random.Random(seed).choices(alphabet, k=length)))


def joined(*parts: str | st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*(st.just(part) if isinstance(part, str) else part for part in parts)).map("".join)


def jwt() -> st.SearchStrategy[str]:
    def encode(claims: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")

    head = encode({"alg": "HS256", "typ": "JWT"})
    claims = st.dictionaries(st.sampled_from(["iss", "role", "ref"]), of(ALNUM, 12), min_size=1)
    return joined(head + ".", claims.map(encode), ".", of(URLSAFE, 43))


def pem(kind: str, head: str = "") -> st.SearchStrategy[str]:
    lines = joined(*(part for _ in range(3) for part in (of(BASE64, 64), "\n")))
    return joined(f"-----BEGIN {kind}-----\n{head}", lines, f"-----END {kind}-----")


def discord() -> st.SearchStrategy[str]:
    number = st.integers(10**17, 10**18 - 1).map(
        lambda number: base64.b64encode(str(number).encode()).decode()
    )
    return joined(number, ".", of(URLSAFE, 6), ".", of(URLSAFE, 27))


OLD_HEAD = f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{'0AF1' * 8}\n\n"
# Built from pieces, so that nobody's scanner finds one in this file.
FORMATS = {
    "hugging face": ("Hugging Face Token", joined("hf_", of(LETTERS, 34))),
    "hugging face oauth": ("Hugging Face Token", joined("hf_oauth_", of(URLSAFE, 60))),
    "hugging face organisation": ("Hugging Face Token", joined("api_org_", of(LETTERS, 34))),
    "openai legacy": ("OpenAI Token", joined("sk-", of(ALNUM, 20), "T3Blbk" "FJ", of(ALNUM, 20))),
    "openai project": ("OpenAI Token", joined("sk-proj-", of(URLSAFE, 74), "T3Blbk" "FJ", of(URLSAFE, 74))),
    "openai service": ("OpenAI Token", joined("sk-svcacct-", of(URLSAFE, 58), "T3Blbk" "FJ", of(ALNUM, 58))),
    "openai admin": ("OpenAI Token", joined("sk-admin-", of(URLSAFE, 120))),
    "anthropic": ("Anthropic API Key", joined("sk-ant-api03-", of(URLSAFE, 93), "AA")),
    "anthropic admin": ("Anthropic API Key", joined("sk-ant-admin01-", of(URLSAFE, 93), "AA")),
    "aws id": ("AWS Access Key", joined("AKIA", of(UPPER, 16))),
    "aws session": ("AWS Access Key", joined("ASIA", of(UPPER, 16))),
    "aws secret": ("AWS Secret Access Key", joined("aws_secret_access_key = ", of(BASE64, 40))),
    "aws environment": ("AWS Secret Access Key", joined("AWS_SECRET_ACCESS_KEY=", of(BASE64, 40))),
    "aws json": ("AWS Secret Access Key", joined('"SecretAccessKey": "', of(BASE64, 40), '"')),
    "aws short": ("AWS Secret Access Key", joined("AWS_SECRET_KEY: ", of(BASE64, 40))),
    "aws quoted": ("AWS Access Key", joined("aws_token='", of(BASE64, 40), "'")),
    "azure": ("Azure Storage Account access key", joined("AccountKey=", of(BASE64, 86), "==")),
    "discord": ("Discord Bot Token", discord()),
    "github": ("GitHub Token", joined("ghp_", of(ALNUM, 36))),
    "github app": ("GitHub Token", joined("ghs_", of(ALNUM, 36))),
    "github fine-grained": ("GitHub Token", joined("github_pat_", of(ALNUM, 22), "_", of(ALNUM, 59))),
    "gitlab": ("GitLab Token", joined("glpat-", of(ALNUM, 20))),
    "gitlab runner": ("GitLab Token", joined("GR1348941", of(ALNUM, 20))),
    "google": ("Google API Key", joined("AIza", of(URLSAFE, 35))),
    "jwt": ("JSON Web Token", jwt()),
    "mailchimp": ("Mailchimp Access Key", joined(of(HEX, 32), "-us12")),
    "npm": ("NPM tokens", joined("npm_", of(ALNUM, 36))),
    "npmrc": ("NPM tokens", joined("//registry.npmjs.org/:_authToken=", of(HEX, 36))),
    "pypi": ("PyPI Token", joined("pypi-AgEIcHlwaS5v" "cmc", of(URLSAFE, 130))),
    "runpod": ("RunPod API Key", joined("rpa_", of(UPPER, 40), of(LOWER, 6))),
    "sendgrid": ("SendGrid API Key", joined("SG.", of(URLSAFE, 22), ".", of(URLSAFE, 43))),
    "slack": ("Slack Token", joined("xoxb-", of(DIGITS, 12), "-", of(DIGITS, 12), "-", of(ALNUM, 24))),
    "slack hook": ("Slack Token", joined("https://hooks.slack.com/services/T", of(UPPER, 10),
                                         "/B", of(UPPER, 10), "/", of(ALNUM, 24))),
    "square": ("Square OAuth Secret", joined("sq0csp-", of(URLSAFE, 43))),
    "stripe": ("Stripe Access Key", joined("sk_live_", of(ALNUM, 24))),
    "supabase": ("Supabase Key", joined("sb_secret_", of(URLSAFE, 31))),
    "supabase account": ("Supabase Key", joined("sbp_", of(HEX, 40))),
    "telegram": ("Telegram Bot Token", joined(of(DIGITS, 10), ":AA", of(URLSAFE, 33))),
    "twilio": ("Twilio API Key", joined("SK", of(HEX, 32))),
    "wandb": ("Weights & Biases API Key", joined("wandb_v1_", of(ALNUM + "_", 77))),
    "wandb environment": ("Weights & Biases API Key", joined("WANDB_API_KEY=", of(HEX, 40))),
    "wandb call": ("Weights & Biases API Key", joined('wandb.login(key="', of(HEX, 40), '")')),
    "wandb shell": ("Weights & Biases API Key", joined("wandb login --relogin ", of(HEX, 40))),
    "netrc": ("Weights & Biases API Key", joined("api.wandb.ai\n  login user\n  password ", of(HEX, 40))),
    "private key": ("Private Key", pem("PRIVATE " "KEY")),
    "encrypted": ("Private Key", pem("ENCRYPTED PRIVATE " "KEY")),
    "old encrypted": ("Private Key", pem("RSA PRIVATE " "KEY", OLD_HEAD)),
    "openssh": ("Private Key", joined("-----BEGIN OPENSSH PRIVATE " "KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5v",
                                      "bmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZWQy\n", of(BASE64, 70))),
    "pgp": ("Private Key", pem("PGP PRIVATE " "KEY BLOCK", "Version: GnuPG v2\n\n")),
    "putty": ("Private Key", joined("PuTTY-User-Key-" "File-2: ssh-rsa\nEncryption: none\n", of(BASE64, 64))),
}  # fmt: skip
each_format = pytest.mark.parametrize(("kind", "tokens"), FORMATS.values(), ids=FORMATS)
quick = settings(deadline=None, max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
TOKEN = "hf_" + "Ab1Cd2" * 6
KNOWN = 'cor"rect/horse battery+é'


@pytest.fixture
def found(tmp_path: Path) -> Callable[..., list[Finding]]:
    def find(content: str | bytes, name: str = "notes.txt", known: tuple[str, ...] = ()) -> list[Finding]:
        source = tmp_path / "file"
        source.write_bytes(content.encode() if isinstance(content, str) else content)
        spelled = [spelling for secret in known for spelling in log.spellings(secret)]
        return list(scan([LocalFile(name, source, Stamp.of(source))], spelled))

    return find


def kinds(findings: list[Finding]) -> list[str]:
    assert all((one.kind, one.refuses) == ("secret", True) for one in findings)
    return [one.message.partition("(")[2].partition(")")[0] for one in findings]


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return stream.getvalue()


def safetensors(metadata: dict[str, str], data: bytes) -> bytes:
    header = {
        "__metadata__": metadata,
        "w": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]},
    }
    raw = json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


@each_format
@given(data=st.data())
@quick
def test_a_credential_is_found_amid_any_text(found, kind, tokens, data):
    token = data.draw(tokens)
    before = data.draw(
        st.sampled_from(["", "# notes\n\n", "token: ", '{"a": "', "x=", "é", "\\n", "\0\1", " " * 300])
    )
    behind = data.draw(st.sampled_from(["", "\n", '"}', "', '", " and more", "\0\0", "é", "\\n"]))
    findings = found(before + token + behind)
    assert kind in kinds(findings)
    assert not any(
        token[at : at + 8] in one.message + one.hint for one in findings for at in range(len(token) - 8)
    )


@each_format
@given(data=st.data())
@quick
def test_a_credential_across_the_border_of_two_chunks_is_found(found, monkeypatch, kind, tokens, data):
    monkeypatch.setattr(secrets, "_CHUNK", 20_000)
    token = data.draw(tokens)
    text = "text of lines\n" * 6000
    at = data.draw(st.integers(1, 3)) * 20_000 - data.draw(st.integers(0, len(token)))
    findings = found(text[:at] + "\n" + token + "\n" + text)
    assert kind in kinds(findings)
    assert any(f"in line {text[:at].count(chr(10)) + 2:,}" in one.message for one in findings)


@each_format
@given(data=st.data())
@quick
def test_a_credential_in_json_that_is_text_in_json_is_found(found, kind, tokens, data):
    inner = json.dumps({"source": ["import os\n" + data.draw(tokens)]})
    assert kind in kinds(found(json.dumps({"cells": [inner]})))


@pytest.mark.parametrize("protocol", range(6))
def test_a_credential_in_a_pickle_is_found(found, protocol):
    content = pickle.dumps({"args": {"hub_token": TOKEN, "x": 1}}, protocol=protocol)
    assert kinds(found(content, "args.pkl")) == ["Hugging Face Token"]


def test_the_token_in_the_arguments_of_a_real_training_is_found(found):
    [finding] = found((FIXTURES / "sft_lora" / "training_args.bin").read_bytes(), "training_args.bin")
    assert finding.message == 'holds a credential (Hugging Face Token) in "training_args/data.pkl"'
    assert finding.hint.startswith("Remove it, and revoke it")


@pytest.mark.parametrize("name", sorted(path.name for path in FIXTURES.iterdir()))
def test_the_rest_of_real_outputs_holds_none(name):
    files = [
        path for path in (FIXTURES / name).rglob("*") if path.is_file() and path.name != "training_args.bin"
    ]
    assert list(scan([LocalFile(path.name, path, Stamp.of(path)) for path in files], [KNOWN])) == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_known_tools_leave_behind_holds_none(tmp_path, name):
    LAYOUTS[name].make(tmp_path)
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "training_args.bin"]
    assert list(scan([LocalFile(path.name, path, Stamp.of(path)) for path in files], [KNOWN])) == []


@pytest.mark.parametrize(
    "letters", ["abcdefghijklmnopqrstuvwxyzabcdefgh", "THEQUICKBROWNFOXJUMPSOVERALAZYDOGS"]
)
def test_what_is_as_long_as_a_real_token_of_hugging_face_is_one_even_if_it_spells_words(found, letters):
    [finding] = found(f"token: hf_{letters}")
    assert finding.message == "holds a credential (Hugging Face Token) in line 1"


def test_each_kind_is_told_once_with_its_line(found):
    other = "sk-ant-api03-" + "Xy7-_" * 18 + "AA123"
    findings = found(f"# one\n{TOKEN}\n{TOKEN}\nkey: {other}\n{TOKEN}\n")
    assert [one.sentence for one in findings] == [
        "notes.txt holds a credential (Hugging Face Token) in line 2",
        "notes.txt holds a credential (Anthropic API Key) in line 4",
    ]


def test_other_bytes_than_text_have_no_lines(found):
    [finding] = found(b"\0\n\n" + TOKEN.encode())
    assert finding.message == "holds a credential (Hugging Face Token)"


NO_SECRETS = [
    "hf_" + "x" * 34,
    "hf_" + "xX" * 17,
    "hf_...",
    "hf_" + "your_token_here_" * 3,
    "hf_" + "AutoModelForSequenceClassification",
    "hf_" + "AutoModelForSequenceClassificationHead",
    "hf_" + "requiredCharacteristicTypesForDisplayMetadata",
    "hf_" + "transformers_tokenizer_with_a_long_name_2024",
    "hf_" + "servingcellpriorityparametersdescription",
    "HF_TOKEN=<your token>",
    "sk-...",
    "sk-" + "x" * 48,
    "sk-proj-" + "x" * 80,
    "sk-proj-" + "your-api-key-goes-here-" * 3,
    "sk-ant-api03-" + "." * 90,
    "sk-ant-api03-" + "A" * 93 + "AA",
    "task-management-and-risk-assessment-of-projects-2024",
    "AKIAIOSFODNN7" + "EXAMPLE",
    "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCY" + "EXAMPLEKEY",
    "AWS_SECRET_ACCESS_KEY=" + "x" * 40,
    "AKIA" + "X" * 16,
    "MKTASIAKKLEVAGGTWLLQPERSTVWY" * 3,
    "ACCATTGCATGCATGCATGCATGCATGC",
    '"ACCATTGCATGCATGCATGC"',
    "ghp_" + "x" * 36,
    "ghp_" + "0" * 36,
    "highs_and_lows_of_the_stock_market_in_2020_data",
    "glpat-" + "x" * 20,
    "xoxo-2024-love-and-more-love-letters",
    "https://hooks.slack.com/services/T00000000/B00000000/" + "X" * 24,
    "AC" + "0123456789abcdef" * 2,
    "wandb @ git+https://github.com/wandb/wandb@" + "0af3" * 10,
    '"wandb_run": "x", "commit": "' + "0af3" * 10 + '"',
    "WANDB_API_KEY=" + "0" * 40,
    "-----BEGIN PRIVATE " + "KEY-----\n...\n-----END PRIVATE " + "KEY-----",
    "-----BEGIN PUBLIC KEY-----\n" + "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA7Jf" * 2,
    "text about BEGIN RSA PRIVATE KEY and how to make one",
    "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.nothing-that-could-be-decoded",
    "sb_publishable_" + "Ab1Cd2Ef3" * 4,
    "sb_secret_" + "x" * 31,
    "encoder.layers.0.self_attention.query_key_value.dense_h_to_4h.weight" * 3,
    "OCSPCertStatuscryptography.hazmat._oid_SIG_OIDS_TO_HASHcryptography",
    "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct/resolve/main/config.json",
    "sha256:" + "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393",
    "1699999999:" + "abcdefghijklmnopqrstuvwxyz012345678",
]


@pytest.mark.parametrize("text", NO_SECRETS, ids=lambda text: text[:24])
@pytest.mark.parametrize("framed", ["{}", '{{"a": "{}"}}', "\n{}\n"])
def test_placeholders_examples_and_long_words_are_no_secrets(found, text, framed):
    assert found(framed.format(text)) == []


def vocabulary() -> bytes:
    """A tokenizer on one line: 60,000 pieces in the alphabet of byte-level BPE, many of them strange."""
    chance = random.Random(0)
    marks = [chr(code) for code in (*range(0x21, 0x7F), *range(0xA1, 0x180))]
    words = [
        "".join(
            chance.choices(
                chance.choice([LETTERS, ALNUM, URLSAFE, HEX, UPPER, marks]), k=chance.randrange(1, 26)
            )
        )
        for _ in range(60_000)
    ]
    pieces = [chance.choice(["", "Ġ", "▁", "##", "hf_", "sk-", "eyJ"]) + word for word in words]
    merges = [f"{one} {other}" for one, other in zip(pieces[:30_000], pieces[30_000:], strict=False)]
    model = {"vocab": {piece: number for number, piece in enumerate(pieces)}, "merges": merges}
    return json.dumps({"model": model}, ensure_ascii=False).encode()


def test_the_vocabulary_of_a_tokenizer_holds_none(found):
    assert found(vocabulary(), "tokenizer.json", (KNOWN,)) == []


@pytest.mark.parametrize(
    "encode",
    [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes, base64.b85encode, bytes.hex, bytes],
)
def test_random_bytes_hold_none_in_any_spelling(found, encode):
    encoded = encode(random.Random(1).randbytes(1_500_000))
    assert found(encoded) == []


def test_a_short_literal_within_a_blob_is_none(found):
    blob = base64.urlsafe_b64encode(random.Random(2).randbytes(90)).decode()
    assert kinds(found(TOKEN)) == ["Hugging Face Token"]
    assert found(blob + TOKEN) == found(TOKEN + blob) == found(blob + TOKEN + blob) == []


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf_16_is_read_as_text(found, encoding):
    [finding] = found(f"eins\nzwei {TOKEN} drei\n".encode(encoding))
    assert finding.message == "holds a credential (Hugging Face Token) in line 2"


def test_utf_16_without_a_latin_letter_at_its_beginning_is_read_as_text(found):
    [finding] = found(("漢字" * 5000 + f"\n{TOKEN}\n").encode("utf-16"))
    assert finding.kind == "secret"


def test_a_zip_is_looked_into_member_by_member(found):
    members = {"m/data.pkl": b"", "m/code/run.py": f"key = '{TOKEN}'".encode()}
    [finding] = found(zipped(members), "model.pt")
    assert finding.message == 'holds a credential (Hugging Face Token) in "m/code/run.py" in line 1'


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_of_the_storages_in_a_zip_the_small_ones_are_looked_into(found, size):
    content = TOKEN.encode().ljust(size, b"\1")
    findings = found(zipped({"m/data.pkl": b"", "m/data/0": content}), "model.pt")
    assert kinds(findings) == (["Hugging Face Token"] if size == 100 else [])


def test_the_name_of_a_member_may_be_a_credential(found):
    [finding] = found(zipped({f"m/{TOKEN}.txt": b"text"}))
    assert finding.message == "holds a credential (Hugging Face Token) in the name of a member"


def test_no_finding_names_a_member_that_is_called_like_a_secret(found):
    other = "sk-ant-api03-" + "Xy7-_" * 18 + "AA123"
    findings = found(zipped({f"m/{TOKEN}.txt": other.encode()}))
    assert kinds(findings) == ["Hugging Face Token", "Anthropic API Key"]
    assert not any(TOKEN in one.sentence for one in findings)


def test_a_damaged_zip_is_searched_as_it_is(found):
    content = zipped({"notes.txt": TOKEN.encode()}, zipfile.ZIP_STORED)[:-30]
    assert kinds(found(content)) == ["Hugging Face Token"]


def test_gzip_is_unpacked(found):
    [finding] = found(gzip.compress(f"one\n{TOKEN}".encode()), "log.gz")
    assert finding.message == "holds a credential (Hugging Face Token) in line 2"


@pytest.mark.parametrize("cut", [3, 12, 20])
def test_damaged_gzip_is_told(found, cut):
    [finding] = found(gzip.compress(b"some text" * 9)[:cut], "log.gz")
    assert (finding.kind, finding.refuses) == ("partly-scanned", False)
    assert finding.message.endswith("it cannot be unpacked")


@pytest.mark.parametrize("pack", [gzip.compress, lambda content: zipped({"a": content})], ids=["gzip", "zip"])
def test_what_expands_too_far_is_told_and_not_read(found, monkeypatch, pack):
    monkeypatch.setattr(secrets, "_MOST_UNPACKED", 1 << 20)
    content = pack(TOKEN.encode() + bytes(3 << 20) + b"sk_live_" + b"Ab1Cd2Ef3" * 3)
    secret, partly = found(content)
    assert secret.kind == "secret"
    assert (partly.kind, partly.refuses) == ("partly-scanned", False)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_members_that_cannot_be_unpacked_within_bounds_are_told(found, method):
    [finding] = found(zipped({"a": b"text"}, method))
    assert finding.kind == "partly-scanned"


def test_of_safetensors_the_header_is_read_and_no_tensor(found):
    assert found(safetensors({"format": "pt"}, TOKEN.encode()), "model.safetensors") == []
    [finding] = found(safetensors({"token": TOKEN}, bytes(99)), "model.safetensors")
    assert finding.kind == "secret"


@pytest.mark.parametrize(
    "content", [TOKEN.encode(), b"\xff" * 8 + b"{" + TOKEN.encode(), bytes(9) + TOKEN.encode()]
)
def test_what_only_claims_to_be_safetensors_is_read_whole(found, content):
    assert kinds(found(content, "model.safetensors")) == ["Hugging Face Token"]


def test_of_gguf_the_beginning_is_read(found, monkeypatch):
    monkeypatch.setattr(secrets, "_EDGE", 1000)
    assert kinds(found(b"GGUF" + bytes(9) + TOKEN.encode() + bytes(2000), "m.gguf")) == ["Hugging Face Token"]
    assert found(b"GGUF" + bytes(2000) + TOKEN.encode(), "m.gguf") == []


@pytest.mark.parametrize(("at", "seen"), [(0, True), (60_000, False), (119_000, True)])
def test_of_a_large_file_formats_are_looked_for_at_both_ends(found, monkeypatch, at, seen):
    for name, value in (("_CHUNK", 10_000), ("_OVERLAP", 100), ("_EDGE", 20_000), ("_WHOLE", 40_000)):
        monkeypatch.setattr(secrets, name, value)
    text = ("line\n" * 24_000)[:120_000]
    *secret, partly = found(text[:at] + f" {TOKEN} " + text[at:])
    assert kinds(secret) == (["Hugging Face Token"] if seen else [])
    assert (partly.kind, partly.refuses) == ("partly-scanned", False)


def test_of_a_large_file_every_byte_is_searched_for_known_secrets(found, monkeypatch):
    for name, value in (("_CHUNK", 10_000), ("_OVERLAP", 100), ("_EDGE", 20_000), ("_WHOLE", 40_000)):
        monkeypatch.setattr(secrets, name, value)
    text = ("line\n" * 24_000)[:120_000]
    secret, _ = found(text[:59_990] + KNOWN + text[59_990:], known=(KNOWN,))
    assert secret.message == "holds a credential (one that this process was given) in line 11,999"


def test_a_known_secret_longer_than_the_overlap_is_found_across_chunks(found, monkeypatch):
    monkeypatch.setattr(secrets, "_CHUNK", 50_000)
    secret = base64.b64encode(random.Random(3).randbytes(30_000)).decode()
    assert kinds(found("-" * 30_000 + secret, known=(secret,))) == ["one that this process was given"]


SPELLINGS = [
    KNOWN,
    json.dumps(KNOWN),
    json.dumps(KNOWN, ensure_ascii=False),
    "https://x/?key=cor%22rect%2Fhorse%20battery%2B%C3%A9",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_known_secrets_are_found_in_every_spelling(found, spelling):
    [finding] = found(f"a\nb {spelling} c", known=(KNOWN, "other secret"))
    assert finding.message == "holds a credential (one that this process was given) in line 2"
    assert not any(part in finding.sentence + finding.hint for part in ("cor", "horse", "battery"))


def test_known_secrets_are_found_in_members_headers_and_names(found):
    secret = "plain-password-1"
    for content, name in (
        (zipped({"m/data.pkl": pickle.dumps(secret)}), "model.pt"),
        (safetensors({"note": secret}, b""), "model.safetensors"),
        (gzip.compress(secret.encode()), "log.gz"),
        (secret.encode("utf-16"), "notes.txt"),
        (b"text", f"runs/{secret}.txt"),
    ):
        assert kinds(found(content, name, (secret,))) == ["one that this process was given"]


@pytest.mark.parametrize(
    ("secret", "looked_for"),
    [
        ("default", False),
        ("postgres", False),
        ("password", False),
        ("topsecret", True),
        ("default1", True),
    ],
)
def test_a_known_secret_that_is_a_short_word_is_not_looked_for(found, secret, looked_for):
    assert bool(found(f"the {secret} of it", known=(secret,))) is looked_for


def test_a_known_secret_may_be_of_any_bytes(found):
    secret = os.fsdecode(b"pass\xffword\xfe")
    assert kinds(found(b"the pass\xffword\xfe is", known=(secret,))) == ["one that this process was given"]
    assert kinds(found("x=pass%FFword%FE", known=(secret,))) == ["one that this process was given"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        (f"runs/{TOKEN}.txt", "runs/[hidden]"),
        (f"{TOKEN}/a/b.txt", "[hidden]/a/b.txt"),
        ("notes/known-secret-7/x.txt", "notes/[hidden]/x.txt"),
        ("known/slash/secret.txt", "[hidden]"),
    ],
)
def test_a_credential_in_a_path_is_found_and_not_told(found, path, told):
    findings = found(f"and {TOKEN} inside", path, ("known-secret-7", "known/slash"))
    assert findings[0].path == told
    assert findings[0].message.endswith(" in its name")
    assert {one.path for one in findings} == {told}


def test_a_real_jwt_is_told_from_three_words(found):
    head = base64.urlsafe_b64encode(b'{"alg":"HS256"}').decode().rstrip("=")
    assert found(f"{head}.{base64.urlsafe_b64encode(b'not json at all, no').decode()}.c2ln") == []


def test_the_rules_of_the_library_are_those_that_name_a_service():
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    left_out = set(get_mapping_from_secret_type_to_class()) - {known.kind for known in credentials._DETECTORS}
    assert left_out == {
        "Artifactory Credentials",
        "Base64 High Entropy String",
        "Basic Auth Credentials",
        "Cloudant Credentials",
        "Hex High Entropy String",
        "IBM COS HMAC Credentials",
        "IBM Cloud IAM Key",
        "Private Key",
        "Public IP (ipv4)",
        "Secret Keyword",
        "SoftLayer Credentials",
    }


def test_every_format_is_tried_here():
    kinds_tried = {kind for kind, _ in FORMATS.values()}
    assert kinds_tried == {one.kind for one in (*credentials._OURS, *credentials._DETECTORS)}


@given(
    content=st.lists(
        st.one_of(st.binary(max_size=40), st.sampled_from([b"hf_", b"eyJ", b"sk-", b"aws"])),
        max_size=30,
    ).map(b"".join),
    name=st.sampled_from(["a.txt", "model.safetensors", "x.gz", "y.pt"]),
    start=st.sampled_from([b"", b"PK\x03\x04", b"\x1f\x8b", b"GGUF", b"\xff\xfe", b"\0" * 8 + b"{"]),
)
@example(content=b"", name="model.safetensors", start=b"")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_makes_the_search_crash(found, content, name, start):
    found(start + content, name)


HOSTILE = [
    b"eyJ" * 30_000,
    b"eyJ." * 30_000,
    b"hf_" * 30_000,
    b"hf_oauth_" * 30_000,
    b"sk-proj-" * 30_000,
    b"sk-T3BlbkFJ" * 30_000,
    b"glagent-" * 30_000,
    b"wandbkey" * 30_000,
    b"xoxb-1-" * 30_000,
    b"a" * 32 + b"-us" * 30_000,
    b"BEGIN PRIVATE KEY-----\n" * 10_000,
    b"/" * 200_000 + b"/:_authToken=" * 9,
    b"awskey" * 30_000,
    b"abc_" * 60_000 + b"1234567890",
    b"\n".join([b"a" * 20] * 10_000),
]


@pytest.mark.parametrize("content", HOSTILE, ids=lambda content: content[:12].decode())
def test_a_file_full_of_beginnings_is_searched_to_its_end(found, content):
    """Each of these would take hours if an expression followed every beginning to the file's end."""
    assert all(one.kind == "secret" for one in found(content))


def test_searching_prints_and_logs_nothing(found, caplog, capfd):
    caplog.set_level("DEBUG")
    found(TOKEN, known=(KNOWN,))
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_the_library_is_loaded_by_searching_alone():
    code = (
        "import sys, agent.artifact.secrets; assert 'detect_secrets' not in sys.modules; "
        "agent.artifact.credentials._rules(); assert 'detect_secrets' in sys.modules"
    )
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, timeout=60)


def test_a_file_that_cannot_be_read_is_the_callers_to_tell(tmp_path):
    with pytest.raises(OSError, match="missing"):
        list(scan([LocalFile("missing", tmp_path / "missing", Stamp(1, 0, 0, 0, 0))], []))


def test_the_number_of_bytes_in_a_header_is_not_believed(found):
    content = struct.pack("<Q", 2**62) + b"{" + TOKEN.encode()
    assert kinds(found(content, "model.safetensors")) == ["Hugging Face Token"]
