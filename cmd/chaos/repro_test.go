package main

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"testing"

	"chaos/campaign"
	"chaos/results"
)

// A bundle packs the program that is named, since a bug may be in that build
// alone, and the plan of the run: of wherever it ran, for containers, and else
// the same.
func TestBundle(t *testing.T) {
	machine := map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[runtime.GOARCH]
	var build bytes.Buffer // a static program, as far as one can see
	header := elf.Header64{Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Ehsize: 64, Phentsize: 56, Shentsize: 64}
	copy(header.Ident[:], elf.ELFMAG+"\x02\x01\x01")
	if err := binary.Write(&build, binary.LittleEndian, header); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	folder, bundle, other := filepath.Join(dir, "run"), filepath.Join(dir, "bundle"), filepath.Join(dir, "other")
	spec := campaign.DefaultSpec()
	spec.Provider, spec.Network = "local", "namespaces"
	plan, err := campaign.Draw(spec, 7)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{other: build.Bytes(), filepath.Join(folder, results.PlanFile): plan.Encode()} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, b, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := makeBundle(dir, folder, bundle, other, nil); err != nil {
		t.Fatal(err)
	}
	if packed, err := os.ReadFile(filepath.Join(bundle, "chaos")); err != nil || !bytes.Equal(packed, build.Bytes()) {
		t.Errorf("another program was packed than the one that was named: %d bytes, %v", len(packed), err)
	}
	got, err := campaign.ReadPlan(filepath.Join(bundle, "plan", results.PlanFile))
	if err != nil {
		t.Fatal(err)
	}
	if got.Spec.Provider != "docker" || got.Spec.Network != "" {
		t.Errorf("the plan is for %s, %s", got.Spec.Provider, got.Spec.Network)
	}
	got.Spec.Provider, got.Spec.Network = spec.Provider, spec.Network
	if !reflect.DeepEqual(got, plan) {
		t.Errorf("the plan is %+v, the run's was %+v", got, plan)
	}
}
