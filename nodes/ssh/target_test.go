package ssh

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// clientHome writes a person's .ssh/config.
func clientHome(t *testing.T, config string) *clientConfig {
	t.Helper()
	home := t.TempDir()
	if err := os.Mkdir(filepath.Join(home, ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, ".ssh", "config"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := readClientConfig(home)
	if err != nil {
		t.Fatal(err)
	}
	c.own = "me"
	return c
}

// describe writes a way as people would.
func describe(way []target, home string) string {
	var out []string
	for _, t := range way {
		var keys []string
		for _, k := range t.keys {
			keys = append(keys, strings.TrimPrefix(k.path, home+"/.ssh/"))
		}
		out = append(out, fmt.Sprintf("%s@%s %s", t.user, t.addr(), strings.Join(keys, ",")))
	}
	return strings.Join(out, " | ")
}

func TestClientConfig(t *testing.T) {
	c := clientHome(t, `
Host db*
  User dba
  IdentityFile ~/.ssh/id_db
  IdentityFile "%d/.ssh/%h_key"
Host db1
  HostName 192.0.2.1
  Port 2200
Host db2
  HostName %h.example
  ProxyJump bastion
  UserKnownHostsFile ~/.ssh/known_db /etc/known_db
Host bastion
  HostName bastion.example
  User gate
Host far
  ProxyJump one:2201,joe@two
Host one
  ProxyJump zero
Host circle
  ProxyJump circle
Host command
  ProxyCommand nc %h %p
Host none
  ProxyJump none
  UserKnownHostsFile none
Host badport
  Port ssh
Host *.quoted
  User "quoted"
`)
	usual := "id_ed25519,id_ecdsa,id_rsa"
	for _, test := range []struct {
		e    entry
		want string
	}{
		{entry{address: "192.0.2.9"}, "me@192.0.2.9:22 " + usual},
		{entry{address: "db1"}, "dba@192.0.2.1:2200 id_db,192.0.2.1_key"},
		{entry{address: "db1", user: "root", port: 22, key: "~/.ssh/mine"}, "root@192.0.2.1:22 mine"},
		{entry{address: "db2"}, "gate@bastion.example:22 " + usual + " | dba@db2.example:22 id_db,db2.example_key"},
		{entry{address: "db2", jump: "none"}, "dba@db2.example:22 id_db,db2.example_key"},
		{entry{address: "db2", jump: "192.0.2.7:24", key: "/k"}, "me@192.0.2.7:24 " + usual + ",/k | dba@db2.example:22 /k"},
		{entry{address: "far"}, "me@zero:22 " + usual + " | me@one:2201 " + usual + " | joe@two:22 " + usual + " | me@far:22 " + usual},
		{entry{address: "none"}, "me@none:22 " + usual},
		{entry{address: "2001:db8::1", jump: "ssh://u@[2001:db8::2]:23"}, "u@[2001:db8::2]:23 " + usual + " | me@[2001:db8::1]:22 " + usual},
		{entry{address: "a.quoted"}, "quoted@a.quoted:22 " + usual},
	} {
		way, err := c.way(test.e)
		if err != nil {
			t.Errorf("%+v: %v", test.e, err)
		} else if got := describe(way, c.home); got != test.want {
			t.Errorf("%+v:\n got %s\nwant %s", test.e, got, test.want)
		}
	}
	for address, want := range map[string]string{"circle": "circle", "command": "ProxyCommand", "badport": "Port"} {
		if _, err := c.way(entry{address: address}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
	for _, jump := range []string{"@", "a:b", "-oX", "a b", "a:0", strings.Repeat("a,", 9) + "a", "x/y"} {
		if _, err := c.way(entry{address: "h", jump: jump}); err == nil {
			t.Errorf("jump %q is taken", jump)
		}
	}
	way, err := c.way(entry{address: "db2"})
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Join(way[1].knownHosts, " ")
	if !strings.HasPrefix(known, c.home+"/.ssh/known_db /etc/known_db ") {
		t.Errorf("known hosts: %s", known)
	}
	if way, err = c.way(entry{address: "none"}); err != nil || strings.Contains(strings.Join(way[0].knownHosts, " "), c.home) {
		t.Errorf("known hosts: %v, %v", way, err)
	}
}

func TestOddClientConfig(t *testing.T) {
	home := t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".ssh", "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := readClientConfig(home); err == nil || !strings.Contains(err.Error(), "config") {
		t.Errorf("a folder was read: %v", err)
	}
	if _, err := readClientConfig(t.TempDir()); err != nil {
		t.Errorf("no file: %v", err)
	}
}
