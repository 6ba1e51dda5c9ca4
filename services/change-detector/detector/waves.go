package detector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/rollcall-scim/rollcall/pkg/bus"
	provisioningv1 "github.com/rollcall-scim/rollcall/proto/rollcall/provisioning/v1"
)

// wavesKey is the key of what was approved of removals of which others still wait.
func wavesKey(source string) string { return source + ".waves" }

// recallWaves learns what an earlier detector let pass because it was approved.
func (s *session) recallWaves(ctx context.Context) error {
	text, err := s.bus.Text(ctx, provisioningv1.BucketSources, wavesKey(s.name))
	if errors.Is(err, bus.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what was approved: %w", err)
	}
	if err := json.Unmarshal([]byte(text), &s.waves); err != nil {
		return fmt.Errorf("decode what was approved: %w", err)
	}
	s.stored = maps.Clone(s.waves)
	return nil
}

// storeWaves makes the waves durable before what was approved is published.
func (s *session) storeWaves(ctx context.Context) error {
	if s.publisher.would != nil || maps.Equal(s.stored, s.waves) {
		return nil
	}
	text, err := json.Marshal(s.waves)
	if err != nil {
		return fmt.Errorf("encode what was approved: %w", err)
	}
	if err := s.bus.PutText(ctx, provisioningv1.BucketSources, wavesKey(s.name), string(text), 0); err != nil {
		return fmt.Errorf("store what was approved: %w", err)
	}
	s.stored = maps.Clone(s.waves)
	return nil
}
