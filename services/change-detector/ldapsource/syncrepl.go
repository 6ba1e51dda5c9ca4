package ldapsource

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/go-ldap/ldap/v3"

	"github.com/rollcall-scim/rollcall/pkg/crash"
)

// feed starts one feed for each base.
func (f *follower) feed(ctx context.Context, running *sync.WaitGroup) ([]*feed, error) {
	var feeds []*feed
	for i := range f.source.bases {
		c, err := f.source.join(ctx)
		if err != nil {
			return nil, err
		}
		one := &feed{source: f.source, conn: c, base: i, events: f.events}
		feeds = append(feeds, one)
		running.Go(func() {
			defer c.close()
			err := crash.Catch(ctx, f.source.deps.Log, crash.Detector, func() error { return one.run(ctx) })
			_ = one.send(ctx, event{err: err}) // fails only when the session is over already
		})
	}
	return feeds, nil
}

// feed reads one base by RFC 4533 and sends what it says. Its connection carries
// nothing else, and it always drains.
type feed struct {
	source *Source
	conn   *conn
	base   int
	events chan<- event
	live   bool // the refresh is over

	hearing hearing
}

// run asks for the full content, without a cookie, and for what changes after it.
// It returns when the session is over and never without an error.
func (f *feed) run(ctx context.Context) error {
	base := f.source.bases[f.base]
	request := f.source.search(base, everything)
	results := f.conn.Syncrepl(ctx, request, streamBuffer, ldap.SyncRequestModeRefreshAndPersist, nil, false)
	for f.conn.next(results, !f.live) {
		f.hearing.messages.Add(1)
		ev, err := f.read(results)
		if err == nil {
			err = f.send(ctx, ev)
		}
		if err != nil {
			return fmt.Errorf("follow %s: %w", base, err)
		}
	}
	return fmt.Errorf("follow %s: %w", base, f.ended(ctx, results.Err()))
}

// ended says why the stream is over: go-ldap may give no error for a lost
// connection.
func (f *feed) ended(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err = f.conn.explain(err); err != nil {
		return f.source.cure(err, f.source.bases[f.base])
	}
	if err = f.conn.GetLastError(); err != nil {
		return err
	}
	return errors.New("the server ended the session")
}

func (f *feed) send(ctx context.Context, ev event) error {
	ev.base, ev.live = f.base, f.live
	f.live = f.live || ev.done
	f.hearing.live.Store(f.live)
	select {
	case f.events <- ev:
		return nil
	default:
	}
	f.hearing.waiting.Store(true)
	defer f.hearing.waiting.Store(false)
	select {
	case f.events <- ev:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read translates one message.
func (f *feed) read(results ldap.Response) (event, error) {
	if e := results.Entry(); e != nil {
		return f.entry(e, results.Controls())
	}
	if results.Referral() != "" {
		return event{refs: 1}, nil
	}
	var ev event
	for _, control := range results.Controls() {
		if info, ok := control.(*ldap.ControlSyncInfo); ok {
			ev.info(info)
		}
	}
	return ev, nil
}

// entry translates a message about one entry.
func (f *feed) entry(in *ldap.Entry, controls []ldap.Control) (event, error) {
	state, ok := ldap.FindControl(controls, ldap.ControlTypeSyncState).(*ldap.ControlSyncState)
	if !ok {
		return event{}, &cured{
			errors.New("the server ignores the sync request control"),
			"set " + f.source.key("detection.mode") + ": snapshot",
		}
	}
	switch state.State {
	case ldap.SyncStateDelete:
		return event{gone: []ID{ID(state.EntryUUID)}}, nil
	case ldap.SyncStatePresent:
		return event{present: []ID{ID(state.EntryUUID)}}, nil
	case ldap.SyncStateAdd, ldap.SyncStateModify:
	}
	e, err := f.source.entry(in)
	if err != nil {
		return event{skipped: 1}, nil //nolint:nilerr // counted and reported, never guessed
	}
	if e.ID != ID(state.EntryUUID) {
		return event{}, f.wrongID(e.ID, ID(state.EntryUUID))
	}
	return event{put: e, holds: containerOf(in)}, nil
}

// wrongID: deletions come with the server's id alone, so the configured one must
// be the same.
func (f *feed) wrongID(configured, server ID) error {
	return &cured{
		fmt.Errorf("the server names an entry %s whose %s is %s", server, f.source.cfg.ID.Attribute, configured),
		fmt.Sprintf("set %s to the attribute that its content synchronization uses (entryUUID on OpenLDAP, nsUniqueId on 389 DS), or %s: snapshot",
			f.source.key("id.attribute"), f.source.key("detection.mode")),
	}
}

// info takes over a sync info message. Cookies are not kept: every session starts
// with the full content.
func (ev *event) info(info *ldap.ControlSyncInfo) {
	switch info.Value {
	case ldap.SyncInfoRefreshDelete:
		ev.done = info.RefreshDelete.RefreshDone
	case ldap.SyncInfoRefreshPresent:
		ev.done = info.RefreshPresent.RefreshDone
	case ldap.SyncInfoSyncIdSet:
		ids := make([]ID, len(info.SyncIdSet.SyncUUIDs))
		for i, u := range info.SyncIdSet.SyncUUIDs {
			ids[i] = ID(u)
		}
		if info.SyncIdSet.RefreshDeletes {
			ev.gone = append(ev.gone, ids...)
		} else {
			ev.present = append(ev.present, ids...)
		}
	case ldap.SyncInfoNewcookie:
	}
}
