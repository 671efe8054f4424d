"""``bootc-live guest``: the init of a container, and the tools that its hooks use."""
