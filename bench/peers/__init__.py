"""The servers that Trialogue is compared with, each as its own documentation would write it."""
