"""The record of a boot: data, JSON and text."""
