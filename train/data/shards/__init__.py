"""The format of shards (tar files of samples), and reading them."""
