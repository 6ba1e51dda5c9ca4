package scim_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall-scim/rollcall/pkg/scim"
	"github.com/rollcall-scim/rollcall/pkg/scim/scimtest"
)

func TestList(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 99, 100, 101, 250} {
		t.Run(strconv.Itoa(n), func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{})
			var want []string
			for i := range n {
				want = append(want, server.Seed(scim.KindUser, user(fmt.Sprint("u", i))))
			}
			var got []string
			total, err := newClient(t, server.URL()).List(t.Context(), scim.KindUser, scim.ListOptions{Attributes: []string{"userName"}}, func(r *scim.Resource) error {
				got = append(got, r.ID)
				return nil
			})
			if diff := cmp.Diff(want, got); diff != "" || total != n || err != nil {
				t.Errorf("total %d, %v (-want +got):\n%s", total, err, diff)
			}
			if calls := len(server.Requests()); calls != max(1, (n+99)/100) {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

func TestListStopsWhereTheCallerSays(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{})
	server.Seed(scim.KindUser, user("a"))
	enough := errors.New("enough")
	_, err := newClient(t, server.URL()).List(t.Context(), scim.KindUser, scim.ListOptions{}, func(*scim.Resource) error { return enough })
	if !errors.Is(err, enough) {
		t.Error(err)
	}
}

// pages is a target that answers whatever it likes.
type pages func(start, count int) (total any, startIndex int, ids []string)

func (p pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, _ := strconv.Atoi(r.URL.Query().Get("startIndex"))
	count, _ := strconv.Atoi(r.URL.Query().Get("count"))
	total, index, ids := p(start, count)
	resources := []any{}
	for _, id := range ids {
		resources = append(resources, map[string]any{"id": id, "userName": id})
	}
	body := map[string]any{"Resources": resources, "itemsPerPage": count}
	if total != nil {
		body["totalResults"] = total
	}
	if index > 0 {
		body["startIndex"] = index
	}
	_ = json.NewEncoder(w).Encode(body)
}

func span(from, to int) []string {
	var ids []string
	for i := from; i < to; i++ {
		ids = append(ids, strconv.Itoa(i))
	}
	return ids
}

func TestListDoesNotTrust(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name     string
		pages    pages
		complete bool
		distinct int
		calls    int64 // at most
	}{
		{"always the first page, and says so", func(int, int) (any, int, []string) { return 50, 1, span(0, 20) }, false, 20, 2},
		{"always the first page, silently", func(int, int) (any, int, []string) { return 50, 0, span(0, 20) }, false, 20, 2},
		{"echoes what was asked and never moves", func(start, _ int) (any, int, []string) { return 50, start, span(0, 20) }, false, 20, 2},
		{"claims more than it has", func(start, _ int) (any, int, []string) {
			if start > 1 {
				return 30, start, nil
			}
			return 30, 1, span(0, 20)
		}, false, 20, 2},
		{"has more than it claims", func(int, int) (any, int, []string) { return 5, 1, span(0, 20) }, false, 20, 1},
		{"grows on the way", func(start, _ int) (any, int, []string) { return 40 + start, start, span(start, start+20) }, false, 20, 2},
		{"endless new ids", func(start, _ int) (any, int, []string) { return 100, start, span(start, start+20) }, true, 100, 5},
		{"overlapping pages", func(start, _ int) (any, int, []string) { return 40, start, span(max(0, start-3), start+20) }, false, 40, 3},
		{"smaller pages than asked", func(start, _ int) (any, int, []string) { return 30, start, span(start, start+10) }, true, 30, 3},
		{"no total, and a last page that is empty", func(start, _ int) (any, int, []string) {
			if start > 20 {
				return nil, start, nil
			}
			return nil, 1, span(0, 20)
		}, true, 20, 2},
		{"no total, and nothing", func(int, int) (any, int, []string) { return nil, 1, nil }, true, 0, 1},
		{"no total, and always the first page", func(int, int) (any, int, []string) { return nil, 1, span(0, 20) }, false, 20, 2},
		{"no paging", func(int, int) (any, int, []string) { return 300, 1, span(0, 300) }, true, 300, 1},
		{"total as a string", func(int, int) (any, int, []string) { return "20", 1, span(0, 20) }, true, 20, 1},
		{"negative total", func(int, int) (any, int, []string) { return -1, 1, span(0, 20) }, false, 0, 1},
		{"absurd total", func(int, int) (any, int, []string) { return 1 << 50, 1, span(0, 20) }, false, 0, 1},
		{"a resource without id", func(int, int) (any, int, []string) { return 1, 1, []string{""} }, false, 0, 1},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			url := handler(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				test.pages.ServeHTTP(w, r)
			})
			seen := map[string]int{}
			_, err := newClient(t, url).List(t.Context(), scim.KindUser, scim.ListOptions{}, func(r *scim.Resource) error {
				seen[r.ID]++
				return nil
			})
			if (err == nil) != test.complete || err != nil && !errors.Is(err, scim.ErrIncomplete) {
				t.Errorf("error %v, want complete=%v", err, test.complete)
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("%s was delivered %d times", id, n)
				}
			}
			if calls.Load() > test.calls || test.complete && len(seen) != test.distinct {
				t.Errorf("%d calls, %d resources", calls.Load(), len(seen))
			}
		})
	}
}

func TestFindInAnIncompleteListing(t *testing.T) {
	t.Parallel()
	server := scimtest.NewServer(t, scimtest.Options{Quirks: scimtest.Quirks{StuckPaging: true, IgnoreFilters: true}})
	for i := range 150 {
		server.Seed(scim.KindUser, user(fmt.Sprint("u", i)))
	}
	_, err := newClient(t, server.URL()).Find(t.Context(), scim.KindUser, "userName", "u140")
	if !errors.Is(err, scim.ErrIncomplete) {
		t.Errorf("error %v: a user that was not seen is not a user that does not exist", err)
	}
}

// listed is what a listing of users gives.
func listed(t *testing.T, client *scim.Client) (ids []string, err error) {
	t.Helper()
	_, err = client.List(t.Context(), scim.KindUser, scim.ListOptions{}, func(r *scim.Resource) error {
		ids = append(ids, r.ID)
		return nil
	})
	return ids, err
}

func TestListByCursor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		quirks scimtest.Quirks
		cursor bool
	}{
		{"asked for", scimtest.Quirks{CursorPaging: true}, true},
		{"the only way, asked for", scimtest.Quirks{CursorOnly: true}, true},
		{"the only way, unasked", scimtest.Quirks{CursorOnly: true}, false},
		{"asked for, and the target knows none", scimtest.Quirks{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			server := scimtest.NewServer(t, scimtest.Options{Quirks: test.quirks})
			var want []string
			for i := range 250 {
				want = append(want, server.Seed(scim.KindUser, user(fmt.Sprint("u", i))))
			}
			client := newClient(t, server.URL(), func(c *scim.Config) { c.Profile = scim.Generic(); c.Profile.Cursor = test.cursor })
			got, err := listed(t, client)
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
			if calls := len(server.Requests()); calls != 3 {
				t.Errorf("%d calls, want 3", calls)
			}
			if !test.cursor {
				return
			}
			server.ResetLog()
			for name, want := range map[string]int{"u7": 1, "nobody": 0} {
				if found, err := client.Find(t.Context(), scim.KindUser, "userName", name); len(found) != want || err != nil {
					t.Errorf("found %d of %s, %v", len(found), name, err)
				}
			}
			if calls := len(server.Requests()); calls != 2 {
				t.Errorf("%d calls for two look-ups", calls)
			}
		})
	}
}

// cursors is a target that answers whatever it likes to a cursor.
func cursors(t *testing.T, answer func(cursor string) (status int, body map[string]any)) (client *scim.Client, calls *atomic.Int64) {
	t.Helper()
	calls = &atomic.Int64{}
	url := handler(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		status, body := answer(r.URL.Query().Get("cursor"))
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	})
	return newClient(t, url, func(c *scim.Config) { c.Profile = scim.Generic(); c.Profile.Cursor = true }), calls
}

func cursorPage(next string, ids ...string) map[string]any {
	resources := []any{}
	for _, id := range ids {
		resources = append(resources, map[string]any{"id": id})
	}
	return map[string]any{"Resources": resources, "nextCursor": next}
}

func TestCursorsAreNotTrusted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		answer func(cursor string) map[string]any
		calls  int64 // at most
	}{
		{"always the same cursor", func(string) map[string]any { return cursorPage("a", "1") }, 2},
		{"cursors in a circle", func(cursor string) map[string]any {
			return map[string]map[string]any{"": cursorPage("a", "1"), "a": cursorPage("b", "2"), "b": cursorPage("a", "3")}[cursor]
		}, 3},
		{"endless cursors without anything new", func(cursor string) map[string]any { return cursorPage(cursor+"x", "1") }, 25},
		{"fewer than claimed", func(cursor string) map[string]any {
			p := cursorPage("", "1", "2")
			p["totalResults"] = 3
			return p
		}, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			client, calls := cursors(t, func(cursor string) (int, map[string]any) { return http.StatusOK, test.answer(cursor) })
			if _, err := listed(t, client); !errors.Is(err, scim.ErrIncomplete) || calls.Load() > test.calls {
				t.Errorf("%v after %d calls", err, calls.Load())
			}
		})
	}
}

func TestListBeginsAnewAfterAnExpiredCursor(t *testing.T) {
	t.Parallel()
	for _, times := range []int64{1, 100} {
		t.Run(strconv.FormatInt(times, 10), func(t *testing.T) {
			t.Parallel()
			var expired atomic.Int64
			client, calls := cursors(t, func(cursor string) (int, map[string]any) {
				switch {
				case cursor == "":
					return http.StatusOK, cursorPage("a", "1", "2")
				case expired.Add(1) <= times:
					return http.StatusBadRequest, map[string]any{"scimType": "expiredCursor", "status": "400"}
				default:
					return http.StatusOK, cursorPage("", "3")
				}
			})
			got, err := listed(t, client)
			if times == 1 && (err != nil || !cmp.Equal(got, []string{"1", "2", "3"})) || times > 1 && scim.Classify(err) != scim.BadCursor {
				t.Errorf("%v, %v", got, err)
			}
			if calls.Load() != 4 {
				t.Errorf("%d calls", calls.Load())
			}
		})
	}
}

// What was listed before the cursor expired brings nothing new the second time.
func TestLongListingBeginsAnewAfterAnExpiredCursor(t *testing.T) {
	t.Parallel()
	const last, expires = 40, 30
	expired := false
	client, _ := cursors(t, func(cursor string) (int, map[string]any) {
		page, _ := strconv.Atoi(cursor)
		if page == expires && !expired {
			expired = true
			return http.StatusBadRequest, map[string]any{"status": "400", "scimType": "expiredCursor"}
		}
		next := strconv.Itoa(page + 1)
		if page == last {
			next = ""
		}
		return http.StatusOK, cursorPage(next, fmt.Sprint("u", page))
	})
	if ids, err := listed(t, client); err != nil || len(ids) != last+1 {
		t.Errorf("%d resources, want %d: %v", len(ids), last+1, err)
	}
}
