//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/status"
)

// notYet are stories that fall today; docs/testing.md says how. They are played by name,
// or all of them by STORIES=notyet, and belong to no other run.
var notYet = []story{
	{name: "bits flipped on one server", play: damageOne(flip)},
	{name: "bits flipped on all servers", play: damageAll(flip)},
}

// deleteStream deletes the stream of the users while everything runs.
func deleteStream(s *site) {
	s.strain(s.world.growth)
	s.must(s.nats.js.DeleteStream(s.t.Context(), "USERS"))
	s.during(20)
}

// killServices kills all services, and stopServers all servers.
func (s *site) killServices() {
	for _, one := range s.services {
		one.Kill()
	}
}

func (s *site) killServers() {
	for _, one := range s.nats.all {
		one.Kill()
	}
}

func (s *site) startServers() {
	s.t.Helper()
	for _, one := range s.nats.all {
		s.nats.start(one)
	}
	s.nats.answer(s.t.Context())
}

// wipeAllStopped loses everything in NATS while nothing runs, and people and groups are
// renamed meanwhile: nobody gets a second account, nothing is removed, and all are
// renamed in place.
func wipeAllStopped(s *site) {
	s.relax()
	s.converge(healthy)
	s.killServices()
	s.killServers()
	for _, one := range s.nats.all {
		s.nats.wipe(one)
	}
	s.must(s.happen(s.world.renames(10, 4)))
	s.startServers()
	s.setup()
	s.startAll()
	s.converge(2 * time.Minute)
	s.strain(s.world.change)
}

// wipeAllRunning loses everything in NATS under services that run on.
func wipeAllRunning(s *site) {
	s.strain(s.world.growth)
	s.during(10)
	s.killServers()
	for _, one := range s.nats.all {
		s.nats.wipe(one)
	}
	s.startServers()
	s.during(30)
}

// restoreOldCopy puts an older copy of all stores in place. After the copy people were
// disabled and members left, and both was taken back while nothing ran: the restored
// streams and the directory agree, and the target has what was in between.
func restoreOldCopy(s *site) {
	s.relax()
	s.converge(healthy)
	s.killServices()
	s.killServers()
	for _, one := range s.nats.all {
		s.must(os.CopyFS(one.store+".copy", os.DirFS(one.store)))
	}
	s.startServers()
	s.nats.complete(s.t.Context())
	s.startAll()
	away, back := s.world.away(5)
	s.must(s.happen(away))
	s.must(s.happen(s.world.renames(5, 2)))
	s.converge(healthy)
	s.killServices()
	s.killServers()
	s.must(s.happen(back()))
	for _, one := range s.nats.all {
		s.nats.wipe(one)
		s.must(os.Rename(one.store+".copy", one.store))
	}
	s.startServers()
	s.nats.complete(s.t.Context())
	s.startAll()
	s.converge(2 * time.Minute)
	s.strain(s.world.change)
}

// lateWrites keeps what one of each worker sends to the target in the network, kills
// them, and lets it arrive when others have done their work.
func lateWrites(s *site) {
	s.strain(s.world.update)
	victims := []*svc{s.of(userSync)[0], s.of(groupSync)[0]}
	for _, one := range victims {
		one.target.hold(request)
	}
	s.during(30)
	for _, one := range victims {
		one.Kill()
	}
	s.relax()
	s.must(s.happen(s.world.rewrite())) // what is on the way is older than that
	eventually(s.t.Context(), s.t, 2*time.Minute, "others have done the work", func(context.Context) error {
		if !s.equal() {
			return errNotYet
		}
		return nil
	})
	for _, one := range victims {
		one.target.release()
		s.start(one)
	}
	s.strain(s.world.growth)
}

// damage does something to a file of messages.
type damage func(file string, size int64) error

// truncate cuts the last third off a file.
func truncate(file string, size int64) error { return os.Truncate(file, size*2/3) }

// flip inverts one bit in the middle of a file.
func flip(file string, size int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	one := make([]byte, 1)
	if _, err := f.ReadAt(one, size/2); err != nil {
		return errors.Join(err, f.Close())
	}
	one[0] ^= 0x10
	_, err = f.WriteAt(one, size/2)
	return errors.Join(err, f.Close())
}

// damageStore does it to every file of messages of a server that does not run.
func (s *site) damageStore(one *natsServer, do damage) {
	s.t.Helper()
	files := 0
	err := filepath.WalkDir(one.store, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".blk") {
			return err
		}
		info, err := entry.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		files++
		return do(path, info.Size())
	})
	s.must(err)
	if files == 0 {
		s.t.Fatalf("%s has no file of messages", one.store)
	}
}

// damageOne damages what one server has on its disk; the others have it whole.
func damageOne(do damage) func(s *site) {
	return func(s *site) {
		victim := s.nats.leader(s.t.Context(), "KV_links")
		s.must(victim.Stop(stopWithin))
		s.damageStore(victim, do)
		s.during(10)
		s.nats.start(victim)
		s.nats.complete(s.t.Context())
	}
}

// replaceDamaged is the remedy where a server does not repair its disk: it is emptied, and
// the server gets everything from the others.
func replaceDamaged(do damage) func(s *site) {
	return func(s *site) {
		victim := s.nats.leader(s.t.Context(), "KV_links")
		s.must(victim.Stop(stopWithin))
		s.damageStore(victim, do)
		s.during(10)
		s.nats.start(victim)
		s.during(50)
		victim.Kill()
		s.nats.wipe(victim)
		s.nats.start(victim)
		s.nats.complete(s.t.Context())
	}
}

// damageAll damages what every server has on its disk, while the services run.
func damageAll(do damage) func(s *site) {
	return func(s *site) {
		s.strain(s.world.growth)
		for _, one := range s.nats.all {
			s.must(one.Stop(stopWithin))
		}
		for _, one := range s.nats.all {
			s.damageStore(one, do)
		}
		s.startServers()
		s.during(30)
	}
}

// diskSize is that of a server's small disk in mebibytes.
const diskSize = 64

// fillDisk gives each server a small disk, fills all of them, makes room again and
// restarts them, one after the other: a server that ran out of space stores nothing before.
func fillDisk(s *site) {
	for _, one := range s.nats.all {
		s.must(one.Stop(stopWithin))
		s.must(s.smallDisk(one))
		s.nats.start(one)
		s.nats.complete(s.t.Context())
	}
	for _, one := range s.nats.all {
		s.must(fill(filepath.Join(one.store, "filler")))
	}
	s.during(30)
	all := &status.Status{}
	if out, err := s.rollcall(s.t.Context(), "status", "-o", "json"); json.Unmarshal(out, all) != nil {
		s.t.Errorf("the status has no answer while the disks are full: %v", err)
	}
	for _, one := range s.nats.all {
		s.must(os.Remove(filepath.Join(one.store, "filler")))
	}
	for _, one := range s.nats.all {
		s.must(one.Stop(stopWithin))
		s.nats.start(one)
	}
	s.nats.complete(s.t.Context())
	s.flows(healthy)
}

// smallDisk moves the store of a server that does not run to a file system of its own.
func (s *site) smallDisk(one *natsServer) error {
	copied := one.store + ".copy"
	if err := os.Rename(one.store, copied); err != nil {
		return err
	}
	if err := os.Mkdir(one.store, 0o700); err != nil {
		return err
	}
	if err := syscall.Mount("tmpfs", one.store, "tmpfs", 0, "size="+strconv.Itoa(diskSize)+"m"); err != nil {
		return fmt.Errorf("mount a small file system: %w; this story needs root", err)
	}
	s.t.Cleanup(func() {
		one.Kill()
		if err := syscall.Unmount(one.store, 0); err != nil {
			s.t.Errorf("unmount %s: %v", one.store, err)
		}
	})
	return os.CopyFS(one.store, os.DirFS(copied))
}

// fill writes a file until there is no more room.
func fill(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	block := make([]byte, 4096)
	for {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				return errors.Join(err, f.Close())
			}
			return f.Close()
		}
	}
}

// twoConfigurations lets one process of each service run with another mapping than the
// other one, and then all of them with the new one.
func twoConfigurations(s *site) {
	half := func(n int) (all []*svc) { return []*svc{s.of(detector)[n], s.of(userSync)[n], s.of(groupSync)[n]} }
	change := func(all []*svc) {
		for _, one := range all {
			s.must(one.Stop(stopWithin))
			s.must(replaceIn(one.config, "title: user.title", `title: '"`+prefix+`" + user.title'`))
			s.start(one)
		}
	}
	change(half(1))
	s.during(100)
	change(half(0))
	s.must(replaceIn(s.admin, "title: user.title", `title: '"`+prefix+`" + user.title'`))
	s.world.entitle(prefix)
}

// prefix is what the new mapping writes before each title.
const prefix = "The "

func replaceIn(file, before, after string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), before) {
		return fmt.Errorf("%s does not hold %q", file, before)
	}
	return os.WriteFile(file, []byte(strings.ReplaceAll(string(text), before, after)), 0o600)
}
