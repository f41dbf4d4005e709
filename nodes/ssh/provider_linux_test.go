package ssh

import "testing"

func harness(string, []string) error { return nil }

// LabProvider is a provider of count machines of the lab, for tests outside of
// this package.
func LabProvider(t *testing.T, count int, more ...string) *Provider {
	t.Helper()
	return needLab(t).provider(t, count, more...)
}
