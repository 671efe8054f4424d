"""The three ways a root lies in RAM, and what all of them give: something that can be mounted."""
