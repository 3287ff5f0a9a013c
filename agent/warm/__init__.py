"""The model is brought to the Hub's storage while it is being trained; nobody sees it before the commit."""
