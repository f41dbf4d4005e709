//go:build !linux

package agent

// Tables lists the tables of agents: only Linux has some.
func Tables() ([]string, error) { return nil, errNoWall }

// DropTable deletes one table of an agent: only Linux has some.
func DropTable(string) error { return errNoWall }
