package docker

import (
	_ "embed"
	"fmt"
	"strings"
)

// Compose is the compose file of five hosts and a control service, the same as
// docker-compose.yml at the top of the tree.
//
//go:embed compose.yml
var Compose string

// Dockerfile builds the image of a folder that has the program beside it, and in
// bin other programs where there are any.
func Dockerfile(others bool) string {
	bin := ""
	if others {
		bin = "COPY bin/ /bin/\n"
	}
	return "FROM scratch\n" + bin + "COPY chaos /chaos\nENTRYPOINT [\"/chaos\"]\n"
}

// BundleCompose is the compose file of a folder that reproduces one run: its
// image, of a name of its own, is built from that folder.
func BundleCompose(image string) (string, error) {
	out := Compose
	for _, change := range []struct{ old, new string }{
		{"    <<: *host\n    hostname: n1\n", "    <<: *host\n    build: .\n    hostname: n1\n"},
		{"${CHAOS_IMAGE:-" + DefaultImage + "}", image}, // fixed: it is built, and removed by down --rmi all
		{"#   CHAOS_IMAGE  name of the image\n", ""},
		{"chaos image && docker-compose up --exit-code-from control", "docker-compose up --build --exit-code-from control"},
		{"${CHAOS_OUT:-./results/runs}", "${CHAOS_OUT:-./results}"},
		{"folders go to ./results/runs.", "folders go to ./results."},
		{" docs/docker.md tells more.", ""},
	} {
		if !strings.Contains(out, change.old) {
			return "", fmt.Errorf("docker: the compose file has no %q to change", change.old)
		}
		out = strings.ReplaceAll(out, change.old, change.new)
	}
	return out, nil
}
