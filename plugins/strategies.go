package plugins

// Strategies lists the shipped plugins that resolve conflicts of keyed records.
func Strategies() []string {
	return []string{"client_wins", "latest_wins", "manual", "merge", "server_wins"}
}
