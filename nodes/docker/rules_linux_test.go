package docker

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"chaos/nodes"
)

// makeForeignRules is what somebody else may have in a host's firewall.
func makeForeignRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "theirs"})
	s := &nftables.Set{Table: t, Name: "friends", KeyType: nftables.TypeIPAddr, HasTimeout: true}
	if err := c.AddSet(s, []nftables.SetElement{{Key: []byte{192, 0, 2, 7}, Timeout: time.Hour}}); err != nil {
		return err
	}
	chain := c.AddChain(&nftables.Chain{Name: "in", Table: t, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, UserData: []byte("ours, hands off"), Exprs: []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4},
		&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	return c.Flush()
}

// printRules writes every table that is not ours, with all that is in it.
func printRules(w io.Writer) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	tables, err := c.ListTables()
	if err != nil {
		return err
	}
	chains, err := c.ListChains()
	if err != nil {
		return err
	}
	out := json.NewEncoder(w)
	for _, t := range tables {
		if strings.HasPrefix(t.Name, "chaos_") {
			fmt.Fprintln(w, "ours")
			continue
		}
		sets, err := c.GetSets(t)
		if err != nil {
			return err
		}
		for _, s := range sets {
			elements, err := c.GetSetElements(s)
			if err != nil {
				return err
			}
			for i := range elements {
				elements[i].Expires = 0 // runs down by itself
			}
			if err := out.Encode([]any{"set", t.Name, s.Name, elements}); err != nil {
				return err
			}
		}
		for _, chain := range chains {
			if chain.Table.Name != t.Name || chain.Table.Family != t.Family {
				continue
			}
			rules, err := c.GetRules(t, chain)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if err := out.Encode([]any{t.Family, t.Name, chain.Name, r.Position, r.Handle, r.UserData, r.Exprs}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// What others have in a host's firewall stays as it is, byte for byte, through
// every fault of the host's links.
func TestForeignRules(t *testing.T) {
	t.Parallel()
	c, dir := launch(t, needEngine(t))
	e := testEngine(t)
	b := boxOf(t, e, dir, "n2")
	inside(t, b, "foreign")
	before := inside(t, b, "rules")
	if !strings.Contains(before, "theirs") {
		t.Fatalf("no foreign table in %q", before)
	}
	for name, effect := range map[string]nodes.Effect{
		"cut":  {Kind: nodes.Cut, From: 1, To: 2},
		"data": {Kind: nodes.CutData, From: 3, To: 2},
		"slow": {Kind: nodes.Delayed, From: 1, To: 2, Delay: 20 * time.Millisecond},
		"rain": {Kind: nodes.Lossy, From: 3, To: 2, PerMille: 300},
	} {
		ev, err := c.Apply(t.Context(), name, []nodes.Effect{effect})
		proven(t, name, ev, err)
		if during := inside(t, b, "rules"); strings.ReplaceAll(during, "ours\n", "") != before || during == before {
			t.Errorf("%s: before %s\nduring %s", name, before, during)
		}
		ev, err = c.Revert(t.Context(), name)
		proven(t, name, ev, err)
	}
	if after := inside(t, b, "rules"); after != before {
		t.Errorf("before %s\nafter %s", before, after)
	}
}
