"""What operators watch: health of streams and alerts on lag. Listens from outside; no other room imports this one."""
