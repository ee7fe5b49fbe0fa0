"""Speed and memory traffic beside other libraries."""
