"""amefu: few-shot video action recognition with AMeFu-Net (Fu et al., ACM MM 2020, arXiv:2010.09982)."""

__version__ = "0.1.0"
