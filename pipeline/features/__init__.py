"""From stored bars to sequences: the adjusted panel, causal feature columns, mask and labels.

Every feature at session t is computable at the close of t. May import `prices`, `market`, `plugins` and below.
"""

from pipeline.features.columns import FeatureSet

__all__ = ["FeatureSet"]
