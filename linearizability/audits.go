package linearizability

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"chaos/history"
)

// audits judges what the nodes wrote of themselves, across their incarnations.
// Raft (paper, figure 2 and section 5.2): the term never falls, one vote a
// term, one leader a term. Paxos ("Paxos Made Simple", section 2.2): the
// promise never falls. Both: equal applied indices have equal hashes. Commit
// and applied indices are volatile and may fall.
func audits(h history.History, byNode map[string][]history.Audit) Verdict {
	v := Verdict{Checker: "audits", Outcome: Valid}
	leaders := make(map[uint64]string)
	hashes := make(map[uint64]history.Audit)
	lines, compared := 0, 0
	var charges []charge
	for _, name := range slices.Sorted(maps.Keys(byNode)) {
		list := byNode[name]
		lines += len(list)
		for i, a := range list {
			problem := ""
			if i > 0 {
				problem = fell(name, list[i-1], a)
			}
			if problem == "" && isRaft(a) {
				problem = cmp.Or(oneVote(name, list[:i], a), oneLeader(name, leaders, a))
			}
			diverged := false
			if a.Hash != "" && problem == "" {
				problem = sameHash(name, hashes, a)
				diverged = problem != ""
				compared++
			}
			if problem != "" {
				charges = append(charges, charge{problem, name, a, diverged})
			}
		}
	}
	if len(charges) > 0 {
		return convict(h, charges)
	}
	v.Reason = fmt.Sprintf("%d audit lines of %d nodes agree, %d of them with hashes", lines, len(byNode), compared)
	return v
}

func isRaft(a history.Audit) bool { return strings.HasPrefix(a.System, "raft") }

// fell tells of a term or promise below the one before.
func fell(node string, before, a history.Audit) string {
	when := ""
	if a.Incarnation != before.Incarnation {
		when = fmt.Sprintf(" after its restart (incarnation %d)", a.Incarnation)
	}
	switch {
	case a.Term < before.Term && isRaft(a):
		return fmt.Sprintf("the term of %s fell from %d to %d%s", node, before.Term, a.Term, when)
	case !isRaft(a) && compareBallots(a, before) < 0:
		return fmt.Sprintf("the promise of %s fell from (%d, %s) to (%d, %s)%s", node, before.Term, before.Vote, a.Term, a.Vote, when)
	}
	return ""
}

func compareBallots(a, b history.Audit) int {
	return cmp.Or(cmp.Compare(a.Term, b.Term), cmp.Compare(number(a.Vote), number(b.Vote)))
}

// number is 3 for "n3", and 0 for nobody.
func number(node string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(node, "n"))
	if err != nil {
		return 0
	}
	return n
}

func voted(a history.Audit) bool { return a.Vote != "" && a.Vote != "-" }

// oneVote tells of a vote that changed or was forgotten within its term. The
// lines before are of the same term or a lower one.
func oneVote(node string, before []history.Audit, a history.Audit) string {
	if len(before) == 0 {
		return ""
	}
	b := before[len(before)-1]
	if b.Term != a.Term || !voted(b) || a.Vote == b.Vote {
		return ""
	}
	if !voted(a) {
		return fmt.Sprintf("%s forgot its vote for %s in term %d", node, b.Vote, a.Term)
	}
	return fmt.Sprintf("%s voted for %s and for %s in term %d", node, b.Vote, a.Vote, a.Term)
}

func oneLeader(node string, leaders map[uint64]string, a history.Audit) string {
	if a.Role != "leader" {
		return ""
	}
	if other, ok := leaders[a.Term]; ok && other != node {
		return fmt.Sprintf("%s and %s both led term %d", other, node, a.Term)
	}
	leaders[a.Term] = node
	return ""
}

func sameHash(node string, hashes map[uint64]history.Audit, a history.Audit) string {
	a.Node = node
	other, ok := hashes[a.Applied]
	if !ok {
		hashes[a.Applied] = a
		return ""
	}
	if other.Hash == a.Hash {
		return ""
	}
	return fmt.Sprintf("%s (incarnation %d) and %s (incarnation %d) applied different commands up to index %d: hashes %s and %s",
		other.Node, other.Incarnation, node, a.Incarnation, a.Applied, other.Hash, a.Hash)
}
