"""Networks: build them by name, load their weights from files, and show them images with their preprocessing."""
