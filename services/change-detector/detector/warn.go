package detector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	"github.com/rollcall-scim/rollcall/pkg/failpoint"
	"github.com/rollcall-scim/rollcall/pkg/status"
	"github.com/rollcall-scim/rollcall/services/change-detector/ldapsource"
)

// schemaTimeout bounds how long the configuration waits for the directory's schema
// before it becomes current. A session checks the schema again before it reports.
const schemaTimeout = 4 * time.Second

// checkSchema refuses the configuration of the source where it names attributes that
// the directory's schema does not know, before anything is stored or published of it.
// A directory that does not answer refuses nothing: it is asked again by the session,
// which may wait longer for it than people should have to for a word about it.
func (d *detector) checkSchema(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, failpoint.Scale(schemaTimeout))
	defer cancel()
	err := d.directory.CheckAttributes(limited)
	if errors.Is(err, ldapsource.ErrUnknownAttribute) {
		return err
	}
	if err != nil && limited.Err() != nil {
		d.interrupted(ctx, fmt.Errorf("sources.%s.ldap.urls: no answer within %s: %w: check that the server runs and can be reached", d.name, schemaTimeout, limited.Err()))
	}
	if err != nil && ctx.Err() == nil {
		d.log.WarnContext(ctx, "the directory's schema cannot be read; the session checks it before it reports anything", "error", err)
	}
	return ctx.Err()
}

// interrupted makes durable since when the source is not followed and why, so that
// status, console and metrics show it until the next full read.
func (d *detector) interrupted(ctx context.Context, err error) {
	if ctx.Err() != nil || errors.Is(err, bus.ErrFenced) {
		return // another detector follows it
	}
	pass, readErr := status.LastPass(ctx, d.bus, d.name)
	if readErr != nil && !errors.Is(readErr, bus.ErrNotFound) {
		d.log.WarnContext(ctx, "read the result of the last pass", "error", readErr)
		return
	}
	outage := status.Outage{Since: time.Now().UTC(), Reason: outageReason(err), Error: err.Error()}
	if before := pass.Outage; before != nil {
		outage.Since = before.Since
		if outage == *before {
			return
		}
	}
	pass.Outage = &outage
	if err := pass.Keep(ctx, d.bus, d.name); err != nil {
		d.log.WarnContext(ctx, "store why the source is not followed", "error", err)
	}
}

// outageReason is what kind of trouble ended a session.
func outageReason(err error) status.OutageReason {
	switch {
	case errors.Is(err, ldapsource.ErrUnknownAttribute):
		return status.OutageConfiguration
	case ldapsource.Unauthenticated(err):
		return status.OutageCredentials
	case ldapsource.Unreachable(err):
		return status.OutageUnreachable
	default:
		return status.OutageFailed
	}
}

// look counts what the mirror holds after a full read, and afterwards only as long as
// there are warnings or a scope group is missing: counting takes as long as there are
// entries. New warnings are logged; after a full read, all of them are.
func (s *session) look(ctx context.Context) []string {
	if !s.full && len(s.last.Warnings) == 0 && len(s.missing(s.mirror)) == 0 {
		return nil
	}
	warnings := s.found(s.mirror, &s.scope).Warnings
	for _, w := range warnings {
		if s.full || !slices.Contains(s.last.Warnings, w) {
			s.log.WarnContext(ctx, "the configuration is probably wrong", "warning", w)
		}
	}
	return warnings
}
