"""What programs and strangers read: JSON documents on standard output, and the published folder.

Heavy imports are inside the commands.
"""
