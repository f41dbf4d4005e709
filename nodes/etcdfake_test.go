package nodes

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// A fakeEtcd answers as etcd's gateway does, from memory.
type fakeEtcd struct {
	t        *testing.T
	member   Member
	cluster  string
	hook     func(path string) (status int, body string) // may answer in its place; status 0: it does not
	mu       sync.Mutex
	revision uint64
	stale    uint64              // where serializable reads stand; 0: where all do
	versions map[string][]etcdKV // of each key, the oldest first; a nil value: deleted
	asked    []string            // paths, and whether a leader was asked for
}

// startEtcd starts one, which is node n1 of the cluster "demo".
func startEtcd(t *testing.T) (*fakeEtcd, *etcdClient) {
	t.Helper()
	f := &fakeEtcd{t: t, cluster: "demo", revision: 1, versions: map[string][]etcdKV{}}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	port := server.Listener.Addr().(*net.TCPAddr).Port
	f.member = Member{ID: 1, Host: "127.0.0.1", Client: port, Status: port}
	return f, dialEtcd(t, f.member, dialTCP)
}

func dialEtcd(t *testing.T, m Member, dial DialFunc) *etcdClient {
	t.Helper()
	c, err := Etcd("").Dial(t.Context(), m, dial, Options{Cluster: "demo"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*etcdClient)
}

// roster is a member's list of three, seen by the one that is at the head.
func roster(cluster string, self ID) string {
	return fmt.Sprintf(`{"header":{"cluster_id":"7","member_id":"10%d","raft_term":"2"},"members":[{"ID":"101","name":"%s-n1"},{"ID":"102","name":"%s-n2"},{"ID":"103","name":"%s-n3"}]}`,
		self, cluster, cluster, cluster)
}

func (f *fakeEtcd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := r.URL.Path
	if r.Header.Get("Grpc-Metadata-Hasleader") == "true" {
		path += " led"
	}
	f.asked = append(f.asked, path)
	if f.hook != nil {
		if status, body := f.hook(r.URL.Path); status != 0 {
			w.WriteHeader(status)
			io.WriteString(w, body)
			return
		}
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost {
		f.t.Errorf("%s of %s: %v", r.Method, r.URL, err)
	}
	switch r.URL.Path {
	case etcdListPath:
		io.WriteString(w, roster(f.cluster, f.member.ID))
	case etcdRangePath:
		var q etcdRange
		f.parse(body, &q)
		f.write(w, f.rangeOf(q))
	case etcdTxnPath:
		var q etcdTxn
		f.parse(body, &q)
		revision := f.revision
		f.revision++
		a, changed := f.txn(q)
		if !changed {
			f.revision = revision
		}
		a["header"] = f.header()
		f.write(w, a)
	default:
		f.t.Errorf("nobody should ask %s", r.URL.Path)
	}
}

func (f *fakeEtcd) parse(body []byte, q any) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		f.t.Errorf("%s: %v", body, err)
	}
}

func (f *fakeEtcd) write(w io.Writer, a any) {
	if err := json.NewEncoder(w).Encode(a); err != nil {
		f.t.Error(err)
	}
}

func (f *fakeEtcd) header() map[string]any {
	return map[string]any{"cluster_id": "7", "member_id": "101", "revision": fmt.Sprint(f.revision)}
}

// at is a key as it was at a revision, absent where nothing stands there.
func (f *fakeEtcd) at(key string, revision uint64) (kv etcdKV) {
	for _, v := range f.versions[key] {
		if v.Modified <= revision {
			kv = v
		}
	}
	if kv.Value == nil {
		return etcdKV{}
	}
	return kv
}

func (f *fakeEtcd) rangeOf(q etcdRange) map[string]any {
	a := map[string]any{"header": f.header()}
	revision := q.Revision
	switch {
	case q.Serializable && f.stale > 0:
		revision = f.stale
	case revision == 0:
		revision = f.revision
	}
	if kv := f.at(string(q.Key), revision); kv.Modified > 0 {
		a["kvs"], a["count"] = []any{map[string]any{"key": q.Key, "value": kv.Value, "mod_revision": fmt.Sprint(kv.Modified), "version": "1"}}, "1"
	}
	return a
}

// txn carries one out at the revision that was given to it.
func (f *fakeEtcd) txn(q etcdTxn) (a map[string]any, changed bool) {
	holds, responses := true, []any{}
	for _, c := range q.Compare {
		kv := f.at(string(c.Key), f.revision)
		order := cmp.Compare(kv.Modified, c.Revision)
		if c.Target == "VALUE" {
			order = bytes.Compare(kv.Value, c.Value)
		}
		switch c.Result {
		case "EQUAL":
			holds = holds && order == 0
		case "LESS":
			holds = holds && order < 0
		default:
			f.t.Errorf("compares as %q", c.Result)
		}
		holds = holds && (c.Target == "MOD" || kv.Modified > 0)
	}
	ops := q.Failure
	if holds {
		ops = q.Success
	}
	for _, op := range ops {
		response := map[string]any{}
		switch {
		case op.Put != nil:
			f.set(string(op.Put.Key), op.Put.Value)
			changed, response["response_put"] = true, map[string]any{}
		case op.Delete != nil:
			changed = changed || f.at(string(op.Delete.Key), f.revision).Modified > 0
			f.set(string(op.Delete.Key), nil)
			response["response_delete_range"] = map[string]any{}
		case op.Range != nil:
			response["response_range"] = f.rangeOf(*op.Range)
		case op.Txn != nil:
			inner, more := f.txn(*op.Txn)
			changed, response["response_txn"] = changed || more, inner
		}
		responses = append(responses, response)
	}
	a = map[string]any{"responses": responses}
	if holds {
		a["succeeded"] = true
	}
	return a, changed
}

func (f *fakeEtcd) set(key string, value []byte) {
	f.versions[key] = append(f.versions[key], etcdKV{value, f.revision})
}

// stores is what a key holds now, "" where it is absent.
func (f *fakeEtcd) stores(key string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.at(key, f.revision).Value)
}

// count is how often a path was asked.
func (f *fakeEtcd) count(path string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.asked {
		if strings.HasPrefix(p, path) {
			n++
		}
	}
	return n
}
