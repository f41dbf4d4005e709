package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"chaos/nodes"
)

// systems is every system that chaos can test, in the order in which help shows them.
func systems() []nodes.System {
	self := program()
	return []nodes.System{
		nodes.Ours("raft", self),
		nodes.Ours("paxos", self),
		nodes.Ours("paxos-classic", self),
		nodes.Etcd(os.Getenv(nodes.EtcdVariable)),
		nodes.EtcdSerializable(os.Getenv(nodes.EtcdVariable)),
	}
}

// program is the path of this very binary: it is node, agent and controller.
func program() string {
	if p, err := os.Executable(); err == nil {
		return p
	}
	return os.Args[0]
}

// a named is anything that a list holds.
type named interface{ Name() string }

// pick finds a list's entry by name, or tells which one may have been meant.
func pick[T named](flag, name string, list []T) (T, error) {
	var names []string
	for _, v := range list {
		if v.Name() == name {
			return v, nil
		}
		names = append(names, v.Name())
	}
	var none T
	return none, usageError{fmt.Errorf("--%s %q: %s", flag, name, meant(name, names))}
}

// meant names the right one that is near, and all there are.
func meant(wrong string, names []string) string {
	all := "there are " + strings.Join(names, ", ")
	if near := nearest(wrong, names); near != "" {
		return fmt.Sprintf("did you mean %q? T", near) + all[1:]
	}
	return all
}

// nearest is the name with the least edit distance, "" where none is near.
func nearest(to string, names []string) string {
	to = strings.ToLower(to)
	near := slices.MinFunc(names, func(a, b string) int { return distance(to, a) - distance(to, b) })
	if distance(to, near) > max(len(to)/2, 2) {
		return ""
	}
	return near
}

// distance is the number of letters to insert, delete or replace (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost = 1 + min(last, row[j], row[j+1])
			}
			last, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
