package agent_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"chaos/nodes"
)

// nodeMain is a node for tests: it answers lines on its client port with its
// process number, and ends as it is told to.
func nodeMain() {
	if os.Getenv("PRINT") != "" {
		fmt.Println(os.Getenv("PRINT"))
	}
	if os.Getenv("CHILD") != "" {
		startChild(os.Getenv("CHILD"))
	}
	addr := os.Getenv("LISTEN")
	if addr == "" {
		time.Sleep(time.Hour)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			os.Exit(4)
		}
		go answerLines(c)
	}
}

// startChild starts a process in the node's own group, and writes down its number.
func startChild(file string) {
	path, _ := os.Executable()
	c := exec.Command(path)
	c.Env = []string{childRole + "=" + os.Getenv("CHILD_ROLE")}
	if err := c.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(5)
	}
	os.WriteFile(file+".new", fmt.Append(nil, c.Process.Pid), 0o644)
	os.Rename(file+".new", file)
}

func answerLines(c net.Conn) {
	defer c.Close()
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch strings.TrimSpace(line) {
		case "panic":
			panic("asked to panic")
		case "exit":
			fmt.Println("asked to exit")
			os.Exit(7)
		}
		fmt.Fprintf(c, "%d\n", os.Getpid())
	}
}

// testSystem starts nodeMain.
type testSystem struct{ nodes.System }

func (testSystem) Exec(self nodes.Member, _ []nodes.Member, dir string, _ nodes.Options) nodes.Exec {
	path, _ := os.Executable()
	return nodes.Exec{
		Path: path, Env: []string{childRole + "=node", "LISTEN=" + self.Addr(nodes.ClientPort)},
		Files: map[string][]byte{"config/node.txt": []byte("hello")}, Ready: nodes.ClientPort,
	}
}
