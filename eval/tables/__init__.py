"""Models run over labelled videos, and the tables and figures that follow."""
