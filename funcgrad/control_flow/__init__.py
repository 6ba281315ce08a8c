"""Branches, loops, rematerialisation and callbacks: functions that take functions, one file a family."""
