package agent

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"chaos/nodes"
)

const remedyRights = "run it as root or with CAP_NET_ADMIN in its own network namespace"

func probe(ctx context.Context) map[nodes.EffectKind]error {
	out := map[nodes.EffectKind]error{nodes.Down: nil, nodes.Frozen: nil}
	cut, delay := probeWall(ctx)
	out[nodes.Cut], out[nodes.CutData] = cut, cut
	for _, k := range []nodes.EffectKind{nodes.Delayed, nodes.Lossy, nodes.Duplicated, nodes.Reordered, nodes.Limited} {
		out[k] = delay
	}
	if delay == nil {
		out[nodes.Duplicated] = probeTwins()
	}
	return out
}

// probeTwins tries what doubling needs.
func probeTwins() error {
	t, err := openTwins()
	if err == nil {
		t.close()
	}
	return err
}

// probeWall tries what cuts need, and what delays need beyond that.
func probeWall(ctx context.Context) (cut, delay error) {
	if err := ctx.Err(); err != nil {
		return err, err
	}
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		err = fmt.Errorf("no netlink socket for the firewall (%w): %s", err, remedyRights)
		return err, err
	}
	defer c.CloseLasting()
	name := fmt.Sprintf("chaos_try_%d", os.Getpid())
	if err := explain(trySet(c, name)); err != nil {
		return err, err
	}
	if _, err := findQueueMode(c, name); err != nil {
		return nil, fmt.Errorf("%w: load the kernel module nft_queue or xt_NFQUEUE", err)
	}
	q, err := openQueue(nodes.Link{}, nil, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: load the kernel module nfnetlink_queue; %s", err, remedyRights)
	}
	return nil, q.close()
}

// trySet makes a set with time limits, a counter and a rule like ours.
func trySet(c *nftables.Conn, name string) error {
	t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: name})
	chain := c.AddChain(&nftables.Chain{Name: "try", Table: t})
	s := &timedSet{set: &nftables.Set{Table: t, ID: 1, Name: "try", KeyType: nftables.TypeIPAddr, HasTimeout: true}}
	if err := c.AddSet(s.set, nil); err != nil {
		return err
	}
	c.AddObj(&nftables.NamedObj{Table: t, Name: "count", Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	rule := append(ipv4.from(&flow{}, s.set), offset(minOffset)...)
	rule = append(append(rule, ipv4.longerThan(minOffset)...), dropCounted("count")...)
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: rule})
	if err := c.Flush(); err != nil {
		return err
	}
	c.DelTable(t)
	return c.Flush()
}

func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("the firewall refuses us (%w): %s", err, remedyRights)
	default:
		return fmt.Errorf("this kernel's nftables lacks what we need (%w): load the module nf_tables", err)
	}
}
