"""kd-bench: which small language model, distilled how, keeps how much of its big teacher."""

__version__ = "0.1.0"
