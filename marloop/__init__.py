"""The command ``marloop``: a verb for each command of training, serving, monitoring and loadtests."""
