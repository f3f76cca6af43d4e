"""Commands about evenings that run alone: messages, alarms. Heavy imports are inside the commands."""
