package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the top of the tree, seen from this package.
const root = "../.."

// mayImport lists, for every package, which others of this project it may
// import: design, "who imports whom". cmd/chaos may import all.
var mayImport = map[string][]string{
	"campaign":        {"results", "linearizability", "nemesis", "workload", "history", "nodes", "nodes/sim"},
	"campaign/hunt":   {"results", "linearizability"},
	"results":         {"linearizability", "nemesis", "workload", "history", "nodes"},
	"linearizability": {"workload", "history"},
	"nemesis":         {"nodes"},
	"workload":        {"history"},
	"history":         {},
	"nodes":           {"history", "nodes/consensus", "nodes/kv"},
	"nodes/consensus": {},
	"nodes/kv":        {"nodes/consensus"},
	"nodes/replica":   {"nodes/consensus", "nodes/kv"},
	"nodes/sim":       {"history", "nodes", "nodes/consensus", "nodes/kv", "nodes/replica"},
	"nodes/agent":     {"nodes"},
	"nodes/relay":     {"nodes"},
	"nodes/local":     {"nodes", "nodes/agent", "nodes/relay"},
	"nodes/docker":    {"nodes", "nodes/agent"},
	"nodes/ssh":       {"nodes", "nodes/agent"},
	"raft":            {"nodes/consensus"},
	"paxos":           {"nodes/consensus"},
}

// pureMayImport is all that the cores may import of the standard library.
var pureMayImport = []string{"cmp", "encoding/binary", "errors", "fmt", "maps", "slices", "math/rand/v2"}

// mayGo lists the folders and files in which go statements stand.
var mayGo = []string{
	"campaign/", "nodes/replica/", "nodes/agent/", "nodes/local/", "nodes/relay/", "nodes/docker/", "nodes/ssh/",
	"cmd/chaos/main.go",
	"linearizability/porcupine.go",
}

// Bounds of the tree's style.
const (
	functionLinesMax = 70
	fileLinesMax     = 450
)

// TestTidy holds the tree to its own rules.
func TestTidy(t *testing.T) {
	for _, name := range sources(t) {
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, filepath.Join(root, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if n := set.Position(file.End()).Line; n > fileLinesMax {
			t.Errorf("%s has %d lines; at most %d", name, n, fileLinesMax)
		}
		checkImports(t, name, file)
		checkBodies(t, name, set, file)
		checkDocs(t, name, file)
	}
}

// sources lists every Go file that is not a test, by its path below the root.
func sources(t *testing.T) (out []string) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		name := strings.TrimPrefix(filepath.ToSlash(path), root+"/")
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata"):
			return filepath.SkipDir
		case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
			out = append(out, name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d source files found below %s", len(out), root)
	}
	return out
}

func checkImports(t *testing.T, name string, file *ast.File) {
	pkg := filepath.ToSlash(filepath.Dir(name))
	allowed, known := mayImport[pkg]
	if pkg == "cmd/chaos" || pkg == "nodes/nodestest" {
		return
	}
	if !known {
		t.Errorf("%s: package %s has no line in mayImport", name, pkg)
	}
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		own, mine := strings.CutPrefix(path, "chaos/")
		if mine && !slices.Contains(allowed, own) {
			t.Errorf("%s imports %s; %s may import %v", name, path, pkg, allowed)
		}
		if (pkg == "raft" || pkg == "paxos") && !mine && !slices.Contains(pureMayImport, path) {
			t.Errorf("%s imports %s; a core may import %v", name, path, pureMayImport)
		}
		if strings.Contains(path, "porcupine") && name != "linearizability/porcupine.go" {
			t.Errorf("%s imports porcupine; only linearizability/porcupine.go does", name)
		}
	}
}

// checkBodies looks for long functions, go statements and impure calls.
func checkBodies(t *testing.T, name string, set *token.FileSet, file *ast.File) {
	pure := slices.Contains([]string{"raft", "paxos", "nemesis", "workload", "nodes/consensus", "nodes/kv"}, filepath.ToSlash(filepath.Dir(name)))
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Body != nil {
				if lines := set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1; lines > functionLinesMax {
					t.Errorf("%s: %s has %d lines; at most %d", name, n.Name.Name, lines, functionLinesMax)
				}
			}
		case *ast.GoStmt:
			if !slices.ContainsFunc(mayGo, func(p string) bool { return strings.HasPrefix(name, p) }) {
				t.Errorf("%s: a go statement; they stand in %v", set.Position(n.Pos()), mayGo)
			}
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if pure && ok && x.Name == "time" && slices.Contains([]string{"Now", "Sleep", "Since", "After"}, n.Sel.Name) {
				t.Errorf("%s: time.%s in a pure package", set.Position(n.Pos()), n.Sel.Name)
			}
			if pure && ok && x.Name == "rand" && !slices.Contains([]string{"Rand", "New", "NewPCG", "PCG", "Source"}, n.Sel.Name) {
				t.Errorf("%s: rand.%s draws from the global source", set.Position(n.Pos()), n.Sel.Name)
			}
		}
		return true
	})
}

// checkDocs wants a comment on every exported top-level name.
func checkDocs(t *testing.T, name string, file *ast.File) {
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && d.Doc == nil && exportedReceiver(d) {
				t.Errorf("%s: %s has no doc comment", name, d.Name.Name)
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				if ts, ok := s.(*ast.TypeSpec); ok && ts.Name.IsExported() && d.Doc == nil && ts.Doc == nil {
					t.Errorf("%s: type %s has no doc comment", name, ts.Name.Name)
				}
			}
		}
	}
}

func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil {
		return true
	}
	found := false
	ast.Inspect(d.Recv, func(n ast.Node) bool {
		id, ok := n.(*ast.Ident)
		found = found || ok && id.IsExported()
		return true
	})
	return found
}

// TestNoUnfinishedMarks keeps marks of unfinished work out of the tree.
func TestNoUnfinishedMarks(t *testing.T) {
	for _, name := range sources(t) {
		b, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, mark := range []string{"TO" + "DO", "FIX" + "ME", "XX" + "X"} {
			if strings.Contains(string(b), mark) {
				t.Errorf("%s contains %s", name, mark)
			}
		}
	}
}
