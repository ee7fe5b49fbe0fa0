"""Fine-grained recognition: what a whole clip shows (section 5.2), and the systems that it is compared with."""
