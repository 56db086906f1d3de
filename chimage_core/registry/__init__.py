"""Everything that talks to other machines: files by URL, Git repositories."""
