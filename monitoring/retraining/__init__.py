"""The loop of retraining: triggers, training, judging, promotion and the watch after it."""
