package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"chaos/nodes"
	"chaos/nodes/agent"
)

const (
	requestMax = 4 << 20         // bytes of one request or answer
	farewell   = 3 * time.Second // for a run's processes to leave by themselves
	killWait   = 5 * time.Second // for killed ones to be gone
	lookAgain  = 10 * time.Millisecond
	probeLimit = 10 * time.Second // for trying what an agent could do
	peerWait   = 3 * time.Second  // for a connection to another node
	ownerFile  = "owner.json"     // in a run's folder
)

// A request is what the controller wants of our program on a host, beside the
// agent: one JSON value on standard input.
type request struct {
	Op     op       `json:"op"`
	Folder string   `json:"folder"`           // of this user: programs and runs
	Run    string   `json:"run,omitempty"`    // the run's folder
	Owner  owner    `json:"owner,omitzero"`   // prepare: who the run belongs to
	Inside string   `json:"inside,omitempty"` // prepare, look: the node's address
	Ports  int      `json:"ports,omitempty"`  // prepare, look: the first of portCount
	Peers  []string `json:"peers,omitempty"`  // look: addresses of the other nodes
	Remove []string `json:"remove,omitempty"` // clean: names of what was found
}

type op string

const (
	opLook    op = "look"    // tell what could be done here
	opPrepare op = "prepare" // make room for a run's agent, in place of the one before
	opRemove  op = "remove"  // take a run away
	opEnd     op = "end"     // the same, but its folder stays
	opFind    op = "find"    // list what is left of runs
	opClean   op = "clean"   // take away what is named
)

// An answer is one JSON value on standard output.
type answer struct {
	Error   string                      `json:"error,omitempty"`
	Effects map[nodes.EffectKind]string `json:"effects,omitempty"` // look: "" can be done, else why not
	Clock   int64                       `json:"clock,omitempty"`   // look: ns since 1970, at its end
	Took    time.Duration               `json:"took,omitempty"`    // look
	Kernel  string                      `json:"kernel,omitempty"`
	Ports   string                      `json:"ports,omitempty"` // look: why the node's ports can't be had
	Peers   []string                    `json:"peers,omitempty"` // look: other nodes that can't be reached, and why
	Found   []item                      `json:"found,omitempty"` // find: what there is; clean: what stayed
}

// Host is the life of "chaos host" on a remote host: one request on standard
// input, one answer on standard output. Only a controller starts it.
func Host(ctx context.Context, in io.Reader, out io.Writer) error {
	var r request
	if err := json.NewDecoder(io.LimitReader(in, requestMax)).Decode(&r); err != nil {
		return fmt.Errorf("ssh: a host is asked by chaos itself, with a request on standard input: %w", err)
	}
	a, err := r.carryOut(ctx)
	if err != nil {
		a.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(a)
}

func (r request) carryOut(ctx context.Context) (a answer, err error) {
	switch r.Op {
	case opLook:
		return r.look(ctx), nil
	case opPrepare:
		return a, r.prepare()
	case opRemove:
		return a, errors.Join(r.end(), removeRun(r.Run))
	case opEnd:
		return a, r.end()
	case opFind:
		a.Found, err = find(r.Folder)
		return a, err
	case opClean:
		a.Found, err = r.clean()
		return a, err
	}
	return a, fmt.Errorf("ssh: unknown request %q: the program on the host is of another version", r.Op)
}

func (r request) look(ctx context.Context) answer {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	a := answer{Effects: map[nodes.EffectKind]string{}, Kernel: kernel()}
	for kind, why := range agent.Probe(ctx) {
		a.Effects[kind] = ""
		if why != nil {
			a.Effects[kind] = why.Error()
		}
	}
	if err := r.free(); err != nil {
		a.Ports = err.Error()
	}
	a.Peers = r.unreached(ctx)
	a.Clock, a.Took = time.Now().UnixNano(), time.Since(began)
	return a
}

// unreached tries the way to the other nodes.
func (r request) unreached(ctx context.Context) (out []string) {
	ctx, cancel := context.WithTimeout(ctx, peerWait)
	defer cancel()
	whys := make([]string, len(r.Peers))
	var work sync.WaitGroup
	for i, peer := range r.Peers {
		work.Go(func() {
			c, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(peer, strconv.Itoa(r.Ports)))
			if err == nil {
				c.Close()
			} else if !answered(err) {
				whys[i] = err.Error()
			}
		})
	}
	work.Wait()
	return slices.DeleteFunc(whys, func(s string) bool { return s == "" })
}

// answered tells whether a dial that failed shows that the way is open: the other
// host refused, or had the port for a moment only, since it is looked at, too.
func answered(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET)
}

// prepare ends what a former agent of the same run left, makes the run's folder
// and sees that the node's ports are free.
func (r request) prepare() error {
	if err := r.checkRun(); err != nil {
		return err
	}
	if err := endProcesses(r.Run, 0); err != nil {
		return err
	}
	if err := os.MkdirAll(r.Run, 0o755); err != nil {
		return fmt.Errorf("ssh: the run's folder: %w", err)
	}
	b, err := json.Marshal(r.Owner)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(r.Run, ownerFile), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("ssh: the run's folder: %w", err)
	}
	return r.free()
}

// checkRun refuses any folder but one of a run.
func (r request) checkRun() error {
	if filepath.Dir(r.Run) != filepath.Join(r.Folder, "runs") || tableOf(r.Run) == "" {
		return fmt.Errorf("ssh: %q is no run's folder below %q", r.Run, r.Folder)
	}
	return nil
}

// free sees that the node's address is one of this host and that its ports are
// nobody's.
func (r request) free() error {
	if r.Inside == "" {
		return nil
	}
	var busy []string
	for i := range portCount {
		addr := net.JoinHostPort(r.Inside, strconv.Itoa(r.Ports+i))
		err := tryPort(i == portCount-1, addr)
		switch {
		case isNotOurs(err):
			return fmt.Errorf("%s is no address of this host, which has %s; remedy: inside: in the hosts file must be the address that other nodes reach this host by", r.Inside, join(addresses()))
		case err != nil:
			busy = append(busy, addr)
		}
	}
	if len(busy) == 0 {
		return nil
	}
	who := ""
	if runs := liveRuns(); len(runs) > 0 {
		who = fmt.Sprintf(" by another run of chaos (%s)", join(runs))
	}
	return fmt.Errorf("%s are in use%s; remedy: end what uses them, set ports: in the hosts file, or if that run is dead: chaos clean --provider ssh --hosts FILE", join(busy), who)
}

func tryPort(udp bool, addr string) error {
	if udp {
		c, err := net.ListenPacket("udp", addr)
		if err == nil {
			c.Close()
		}
		return err
	}
	l, err := net.Listen("tcp", addr)
	if err == nil {
		l.Close()
	}
	return err
}

func addresses() (out []string) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && !n.IP.IsLinkLocalUnicast() {
			out = append(out, n.IP.String())
		}
	}
	return out
}

// end ends a run's processes and takes its table away.
func (r request) end() error {
	if err := r.checkRun(); err != nil {
		return err
	}
	return errors.Join(endProcesses(r.Run, farewell), agent.DropTable(tableOf(r.Run)))
}

// removeRun deletes a run's folder, and no other.
func removeRun(run string) error {
	if tableOf(run) == "" {
		return fmt.Errorf("ssh: %q is no run's folder", run)
	}
	if err := os.RemoveAll(run); err != nil {
		return fmt.Errorf("ssh: removing the run's folder: %w", err)
	}
	return nil
}

// runName names a run's folder: the cluster as the firewall's table is named,
// a number drawn, the host.
func runName(cluster, drawn, host string) string { return cluster + "-" + drawn + "-" + host }

// tableOf is the firewall's table of the run whose folder that is; "": it is no
// run's folder.
func tableOf(run string) string {
	name := filepath.Base(run)
	parts := strings.SplitN(name, "-", 3)
	if len(parts) != 3 || !isWord(parts[0]) || !isHex(parts[1]) || parts[2] == "" || strings.ContainsFunc(name, oddInName) {
		return ""
	}
	return agent.TableOf(parts[0])
}

func isWord(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r == '-' || r == '.' || oddInName(r) })
}

func isHex(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789abcdef") == ""
}

// clean takes away what the controller names of what was found, and tells what
// of it is still there.
func (r request) clean() ([]item, error) {
	found, err := find(r.Folder)
	if err != nil {
		return nil, err
	}
	for _, i := range found {
		if slices.Contains(r.Remove, i.Name) {
			err = errors.Join(err, i.remove())
		}
	}
	stayed, again := find(r.Folder)
	return slices.DeleteFunc(stayed, func(i item) bool { return !slices.Contains(r.Remove, i.Name) }), errors.Join(err, again)
}
