//go:build cluster

package cluster

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// previous are the services of the previous release, built from its source in git. Its
// NATS server and command line are those of the present.
var previous = &programs{prepare: checkOut, services: true}

// checkOut writes the source of the previous release below dir.
func checkOut(dir string) (in string, flags []string, err error) {
	revision := *previousFlag
	if revision == "" {
		if tag, err := exec.Command("git", "describe", "--tags", "--abbrev=0").Output(); err == nil {
			revision = strings.TrimSpace(string(tag))
		} else {
			revision = "HEAD~10"
		}
	}
	root, err := exec.Command("git", "rev-parse", "--show-toplevel").Output()
	if err != nil {
		return "", nil, fmt.Errorf("find the repository: %w", err)
	}
	in = filepath.Join(dir, "source")
	if err := os.Mkdir(in, 0o700); err != nil {
		return "", nil, err
	}
	archive := exec.Command("git", "-C", strings.TrimSpace(string(root)), "archive", "-o", filepath.Join(dir, "source.tar"), revision)
	if out, err := archive.CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("read revision %s: %w: %s; name one by -previous", revision, err, out)
	}
	if out, err := exec.Command("tar", "-x", "-C", in, "-f", filepath.Join(dir, "source.tar")).CombinedOutput(); err != nil {
		return "", nil, fmt.Errorf("unpack revision %s: %w: %s", revision, err, out)
	}
	return in, []string{"-trimpath"}, nil
}

// twoVersions is an upgrade and a way back: one process of each service is of the
// previous release, then all of them, then the other ones, and then none.
func twoVersions(s *site) {
	half := func(n int) []*svc { return []*svc{s.of(detector)[n], s.of(userSync)[n], s.of(groupSync)[n]} }
	change := func(all []*svc, bin *programs) {
		for _, one := range all {
			s.must(one.Stop(stopWithin))
			one.bin = bin
			s.start(one)
		}
		s.during(60)
	}
	change(half(0), previous)
	change(half(1), previous)
	change(half(0), usual)
	change(half(1), usual)
}
