"""What a choice costs or brings in log loss: on real prices and planted signals, with the product's own trainer."""
