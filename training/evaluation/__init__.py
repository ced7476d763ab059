"""Tests of rewards and policies, one file per benchmark."""
