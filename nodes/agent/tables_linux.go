package agent

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Tables lists the tables of agents in the firewall of this network namespace.
// Without rights there is nothing to see, nor to remove.
func Tables() (out []string, err error) {
	if !hasNetAdmin() {
		return nil, nil
	}
	c, err := nftables.New()
	if err != nil {
		return nil, nil
	}
	tables, err := c.ListTables()
	if err != nil {
		return nil, nil // a kernel without nftables has none
	}
	for _, t := range tables {
		if t.Family == nftables.TableFamilyINet && strings.HasPrefix(t.Name, tablePrefix) {
			out = append(out, t.Name)
		}
	}
	return out, nil
}

// DropTable deletes one table of an agent that is gone; that there is none is no
// error, and a table that is not ours is.
func DropTable(name string) error {
	if !strings.HasPrefix(name, tablePrefix) {
		return fmt.Errorf("agent: %q is no table of ours", name)
	}
	tables, err := Tables()
	if err != nil || !slices.Contains(tables, name) {
		return err
	}
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("agent: opening the firewall: %w", err)
	}
	t := &nftables.Table{Family: nftables.TableFamilyINet, Name: name}
	c.AddTable(t) // else it would be an error that it is gone meanwhile
	c.DelTable(t)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("agent: removing the firewall's table %s: %w", name, err)
	}
	return nil
}

// hasNetAdmin tells whether this process may touch the firewall.
func hasNetAdmin() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
}
