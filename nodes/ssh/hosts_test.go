package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostsFile(t *testing.T) {
	const good = `
defaults:
  user: chaos
  key: ~/.ssh/id_lab
  sudo: true
  ports: 7100
hosts:
  - name: db1
    address: 192.0.2.11
  - name: db2
    address: db2.example
    port: 2222
    user: root
    sudo: false
    agent: true
    jump: me@bastion:22
    inside: 10.0.0.2
    folder: /data/chaos
  - name: db3
`
	got, err := parseHosts("hosts.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("%d hosts", len(got))
	}
	a, b, c := got[0], got[1], got[2]
	if a.user != "chaos" || a.key != "~/.ssh/id_lab" || a.sudo == nil || !*a.sudo || a.ports != 7100 || a.inside != "192.0.2.11" || a.line != 8 {
		t.Errorf("%+v", a)
	}
	if b.user != "root" || b.port != 2222 || *b.sudo || !*b.agent || b.jump != "me@bastion:22" || b.inside != "10.0.0.2" || b.folder != "/data/chaos" {
		t.Errorf("%+v", b)
	}
	if c.address != "db3" || c.inside != "" {
		t.Errorf("%+v", c)
	}
}

// Every mistake is told with the file's name and the line.
func TestBadHostsFiles(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "hosts.yaml:1: the file is empty"},
		{"# nothing\n", "hosts.yaml:1: the file is empty"},
		{"hosts: [", "line 1"},
		{"[]", "hosts.yaml:1: the file must be a mapping"},
		{"hosts:\n", "hosts.yaml:1: no hosts are listed"},
		{"hosts: []\n", "no hosts are listed"},
		{"servers:\n- name: a\n", `hosts.yaml:2: unknown field "servers"`},
		{"hosts:\n- name: a\n  adress: b\n", `hosts.yaml:3: unknown field "adress"`},
		{"hosts:\n- address: b\n", "hosts.yaml:2: the host has no name"},
		{"hosts:\n- name: a\n  name: b\n", `hosts.yaml:3: "name" stands here and in line 2`},
		{"hosts:\n- name: a\n  address: x\n- name: a\n  address: y\n", "hosts.yaml:4: the name a stands in line 2 already"},
		{"hosts:\n- name: a\n  address: x\n- name: b\n  address: x\n", "hosts.yaml:4: the address x stands in line 2"},
		{"hosts:\n- name: a\n  address: x\n  inside: 10.0.0.1\n- name: b\n  inside: 10.0.0.1\n", "hosts.yaml:5: the inside address 10.0.0.1 stands"},
		{"hosts:\n- name: a b\n", "hosts.yaml:2: the name"},
		{"hosts:\n- name: " + strings.Repeat("a", 65) + "\n", "hosts.yaml:2: the name"},
		{"hosts:\n- name: a\n  address: me@x\n", "hosts.yaml:2: the address"},
		{"hosts:\n- name: a\n  address: -oProxyCommand=id\n", "hosts.yaml:3: address begins with a dash"},
		{"hosts:\n- name: a\n  user: \"a\\nb\"\n", "hosts.yaml:3: user holds a control character"},
		{"hosts:\n- name: a\n  port: 0\n", "hosts.yaml:3: port"},
		{"hosts:\n- name: a\n  port: twenty\n", "hosts.yaml:3: port"},
		{"hosts:\n- name: a\n  ports: 65533\n", "hosts.yaml:3: ports"},
		{"hosts:\n- name: a\n  sudo: yes\n", "hosts.yaml:3: sudo"},
		{"hosts:\n- name: a\n  agent: [true]\n", "hosts.yaml:3: agent"},
		{"hosts:\n- name: a\n  user: [b]\n", "hosts.yaml:3: user needs one value"},
		{"hosts:\n- name: a\n  user:\n", "hosts.yaml:3: user needs one value"},
		{"hosts:\n- name: a\n  inside: db1\n", "hosts.yaml:2: inside"},
		{"hosts:\n- name: a\n  inside: 0.0.0.0\n", "hosts.yaml:2: inside"},
		{"hosts:\n- name: a\n  folder: data\n", "hosts.yaml:2: the folder"},
		{"hosts:\n- name: a\n  folder: /\n", "hosts.yaml:2: the folder"},
		{"hosts:\n- a\n", "hosts.yaml:2: a host must be a mapping"},
		{"hosts:\n  name: a\n", "no hosts are listed"},
		{"defaults:\n  name: a\nhosts:\n- name: b\n", "they can't be defaults"},
		{"hosts:\n- name: a\n---\nhosts:\n- name: b\n", "more than one document"},
		{"hosts:\n" + strings.Repeat("- name: a\n", hostsMax+1), "201 hosts; at most 200"},
	} {
		_, err := parseHosts("hosts.yaml", []byte(test.text))
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.HasPrefix(err.Error(), "ssh: ") {
			t.Errorf("%q: %v\nwant %q", test.text, err, test.want)
		}
	}
	for _, name := range []string{"", filepath.Join(t.TempDir(), "none.yaml"), t.TempDir()} {
		if _, err := readHosts(name); err == nil {
			t.Errorf("%q was read", name)
		}
	}
	if err := (Config{HostsFile: "/there/is/none", Home: t.TempDir()}).Check(0); err == nil {
		t.Error("a file that is not there is fine")
	}
	fine := filepath.Join(t.TempDir(), "fine.yaml")
	if err := os.WriteFile(fine, []byte("hosts: [{name: a}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (Config{HostsFile: fine, Home: t.TempDir()}).Check(1); err != nil {
		t.Error(err)
	}
	if err := (Config{HostsFile: fine, Home: t.TempDir()}).Check(2); err == nil || !strings.Contains(err.Error(), "names 1; remedy: --nodes 1") {
		t.Errorf("two nodes on one host: %v", err)
	}
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, make([]byte, hostsFileMax+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readHosts(big); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("a huge file: %v", err)
	}
}

func FuzzHostsFile(f *testing.F) {
	f.Add([]byte("hosts:\n- name: a\n  address: b\n"))
	f.Add([]byte("defaults: &d\n  user: a\nhosts:\n- <<: *d\n  name: a\n"))
	f.Add([]byte("hosts: [{name: a, port: 22}, {name: b}]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := parseHosts("hosts.yaml", b)
		if err != nil {
			return
		}
		for _, e := range entries {
			if e.name == "" || e.address == "" || e.ports == 0 || tableOf("/x/runs/"+runName("kit", "01234567", e.name)) != "chaos_kit" {
				t.Errorf("taken: %+v", e)
			}
		}
	})
}
