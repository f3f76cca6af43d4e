"""What the sealed record says as it grows: challengers beside the champion."""
