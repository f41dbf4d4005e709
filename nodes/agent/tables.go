package agent

// tablePrefix begins the name of every table of ours in a firewall.
const tablePrefix = "chaos_"

// TableOf is the name of the table that an agent of a run has in its host's
// firewall; with "" it is what all of them begin with.
func TableOf(run string) string { return tablePrefix + run }
