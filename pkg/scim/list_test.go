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
		{"no total", func(int, int) (any, int, []string) { return nil, 1, span(0, 20) }, true, 20, 1},
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
