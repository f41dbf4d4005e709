package docker

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"
)

// tarOf is a tar file with one file of that name.
func tarOf(t *testing.T, name string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	if err := writeFile(w, name, 0o644, 4, strings.NewReader("text")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
