package bedrocktoken

import (
	"cmp"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/logincreds"
	"github.com/aws/aws-sdk-go-v2/credentials/processcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/ssocreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
)

// The sources of credentials: those whose outages are bridged, those that are not but
// cannot prompt, and those that may.
var (
	bridging  = []string{ec2rolecreds.ProviderName, endpointcreds.ProviderName, stscreds.ProviderName, stscreds.WebIdentityProviderName, ssocreds.ProviderName, logincreds.ProviderName}
	files     = []string{config.CredentialsSourceName, "SharedConfigCredentials: /home/user/.aws/credentials"}
	prompting = []string{"", "StaticCredentials", processcreds.ProviderName}
	sts       = []string{stscreds.ProviderName}
	others    = slices.Concat(files, prompting)
	all       = slices.Concat(bridging, others)
)

// An answer is what a retrieval brings: the keys with that name, or an error.
type answer struct {
	keys   string
	life   time.Duration // 0 for ever
	source string        // if it is not the source of the case
	err    error
}

const (
	ever = 0
	over = -time.Second
)

var (
	outage  = answer{err: outageError("out of order")}
	failure = answer{err: errors.New("sign in")}
)

func lives(keys string, life time.Duration) answer { return answer{keys: keys, life: life} }

// A step is a call, and the retrieval that it begins.
type step struct {
	at     time.Duration // since the first step
	denied string        // the keys that Bedrock has denied just before
	gets   string        // the keys that the call is served, or "" if it waits until the retrieval ends
	waits  time.Duration // before, if the retrieval does not end
	brings answer        // nothing if no retrieval is due
	then   string        // the keys that are served when the retrieval has ended, or "" for an error
	due    time.Duration // until the next retrieval
	told   string        // who is told why there are no new credentials
}

const handler, callers = "handler", "callers"

// What a call gets, and what a retrieval does. The first credentials are called A.
func TestPolicy(t *testing.T) {
	const hour, minute, second = time.Hour, time.Minute, time.Second
	held := step{brings: lives("A", hour), then: "A", due: 45 * minute}        // at 0
	bridged := step{61 * minute, "", "", 0, outage, "A", 10 * second, handler} // after it
	tests := map[string]test{
		"more than a minute before the window": {all, []step{held, {at: 44 * minute, gets: "A"}}},
		"window, new":                          {all, []step{held, {45 * minute, "", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"window, the same":                     {all, []step{held, {45 * minute, "", "A", 0, lives("A", 15*minute), "A", 10 * minute, ""}}},
		"window, outage": {all, []step{held, {45 * minute, "", "A", 0, outage, "A", 10 * second, handler},
			{45*minute + 9*second, "", "A", 0, answer{}, "", 0, ""},
			{45*minute + 10*second, "", "A", 0, outage, "A", 20 * second, handler},
			{46 * minute, "", "A", 0, outage, "A", 40 * second, handler},
			{47 * minute, "", "A", 0, outage, "A", 80 * second, handler},
			{49 * minute, "", "A", 0, outage, "A", 160 * second, handler},
			{52 * minute, "", "A", 0, outage, "A", 5 * minute, handler},
			{57 * minute, "", "A", 0, failure, "A", 3 * minute, handler}}},
		"window, expired":            {all, []step{held, {45 * minute, "", "A", 0, lives("B", over), "A", 10 * second, handler}}},
		"window, less than a second": {all, []step{held, {45 * minute, "", "A", 0, lives("B", second-1), "A", 10 * second, handler}}},
		"window, refusal":            {all, []step{held, {45 * minute, "", "A", 0, failure, "A", 10 * second, handler}}},
		"window, sooner to end":      {all, []step{held, {45 * minute, "", "A", 0, lives("B", 15*minute-1), "A", 10 * second, handler}}},
		"window, as late to end":     {all, []step{held, {45 * minute, "", "A", 0, lives("B", 15*minute), "B", 10 * minute, ""}}},
		"window, without an end":     {append(files, ""), []step{held, {45 * minute, "", "A", 0, lives("B", ever), "B", 5 * minute, ""}}},
		"more than a minute left":    {all, []step{held, {59*minute - 1, "", "A", 0, failure, "A", 10 * second, handler}}},
		"last minute, new":           {all, []step{held, {59 * minute, "", "A", second, lives("B", hour), "B", 45 * minute, ""}}},
		"last minute, refusal":       {all, []step{held, {59*minute + 30*second, "", "A", second, failure, "A", 10 * second, handler}}},
		"half a second left, refusal": {bridging, []step{held, {3600*second - second/2, "", "A", second, failure, "A", second / 2, handler},
			{60 * minute, "", "", 0, failure, "", 2 * second, callers}, {at: 61*minute - 59*second}, {at: 60*minute + 2*second - 1}}},
		"ended, new": {all, []step{held, {60 * minute, "", "", 0, lives("B", 10*minute), "B", 5 * minute, ""}}},
		"ended, outage": {bridging, []step{held, bridged,
			{61*minute + 10*second, "", "A", 0, lives("B", over), "A", 20 * second, handler},
			{62 * minute, "", "A", 0, outage, "A", 40 * second, handler},
			{63 * minute, "", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"ended, outage of another": {others, []step{held, {61 * minute, "", "", 0, outage, "", 2 * second, callers},
			{at: 61*minute + second}, {61*minute + 2*second, "", "", 0, lives("B", over), "", 2 * second, callers}}},
		"ended, refusal":                 {all, []step{held, {61 * minute, "", "", 0, failure, "", 2 * second, callers}}},
		"bridged, refusal":               {bridging, []step{held, bridged, {62 * minute, "", "A", 0, failure, "", 2 * second, callers}, {at: 62*minute + second}}},
		"bridged, idle":                  {bridging, []step{held, bridged, {8 * hour, "", "A", second, lives("B", hour), "B", 45 * minute, ""}}},
		"bridged, a call each 2 minutes": {bridging, []step{held, bridged, {63*minute + 10*second - 1, "", "A", 0, outage, "A", 20 * second, handler}}},
		"outage since the window": {bridging, []step{held, {45 * minute, "", "A", 0, outage, "A", 10 * second, handler},
			{59*minute + 55*second, "", "A", second, outage, "A", 5 * second, handler},
			{60 * minute, "", "A", 0, outage, "A", 10 * second, handler},
			{60*minute + 10*second, "", "A", 0, outage, "A", 20 * second, handler},
			{60*minute + 30*second, "", "A", 0, outage, "A", 40 * second, handler}}},
		"failure, outage, refusal": {bridging, []step{held, {61 * minute, "", "", 0, failure, "", 2 * second, callers},
			{62 * minute, "", "", 0, outage, "A", 10 * second, handler}, {63 * minute, "", "A", 0, failure, "", 2 * second, callers},
			{64 * minute, "", "", 0, outage, "A", 10 * second, handler}}},
		"none, EC2's are expired": {[]string{ec2rolecreds.ProviderName}, []step{
			{brings: lives("A", over), then: "A", due: 10 * second, told: handler},
			{10 * second, "", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"none, others are expired": {slices.DeleteFunc(slices.Clone(all), func(s string) bool { return s == ec2rolecreds.ProviderName }),
			[]step{{brings: lives("A", over), due: 2 * second, told: callers}}},
		"none, outage":   {all, []step{{brings: outage, due: 2 * second, told: callers}, {at: second}, {2 * second, "", "", 0, lives("A", hour), "A", 45 * minute, ""}}},
		"none, refusal":  {all, []step{{brings: failure, due: 2 * second, told: callers}}},
		"lives 1 s":      {all, []step{{brings: lives("A", second), then: "A", due: second}}},
		"lives 3 s":      {all, []step{{brings: lives("A", 3*second), then: "A", due: 3 * second}, {3 * second, "", "", 0, lives("B", 3*second), "B", 3 * second, ""}}},
		"lives 90 s":     {all, []step{{brings: lives("A", 90*second), then: "A", due: 30 * second}}},
		"lives 65 s":     {all, []step{{brings: lives("A", 65*second), then: "A", due: 10 * second}}},
		"lives 8 min":    {all, []step{{brings: lives("A", 8*minute), then: "A", due: 4 * minute}}},
		"lives 10 min":   {all, []step{{brings: lives("A", 10*minute), then: "A", due: 5 * minute}}},
		"lives 20 min":   {all, []step{{brings: lives("A", 20*minute), then: "A", due: 15 * minute}}},
		"lives 20.5 min": {all, []step{{brings: lives("A", 20*minute+30*second), then: "A", due: 5*minute + 30*second}}},
		"lives 90 min":   {all, []step{{brings: lives("A", 90*minute), then: "A", due: 30 * minute}}},
		"lives 6 h":      {all, []step{{brings: lives("A", 6*hour), then: "A", due: 5 * hour}}},
		"without an end": {slices.Concat(bridging, files, []string{"", "StaticCredentials"}), []step{{brings: lives("A", ever), then: "A", due: 5 * minute},
			{5 * minute, "", "A", 0, lives("B", minute), "A", 10 * second, handler},
			{6 * minute, "", "A", 0, lives("B", minute+1), "B", 10 * second, ""}}},
		"without an end, a process": {[]string{processcreds.ProviderName}, []step{{brings: lives("A", ever), then: "A", due: forever}}},
		"denied":                    {slices.Concat(bridging, files), []step{held, {2 * minute, "A", "A", 0, lives("B", 30*minute), "B", 15 * minute, ""}}},
		"denied, then the same, then others that end sooner": {slices.Concat(bridging, files), []step{held, {2 * minute, "A", "A", 0, lives("A", 58*minute), "A", 43 * minute, ""},
			{45 * minute, "", "A", 0, lives("B", 10*minute), "B", 5 * minute, ""},
			{50 * minute, "", "B", 0, lives("C", 4*minute), "B", 10 * second, handler}}}, // nobody has denied B
		"denied, may prompt": {prompting, []step{held, {at: 2 * minute, denied: "A", gets: "A"}, {45 * minute, "", "A", 0, lives("B", 10*minute), "B", 5 * minute, ""}}},
		"denied 30 s after a retrieval": {slices.Concat(bridging, files), []step{held, {at: 30 * second, denied: "A", gets: "A"}, {at: minute - 1, gets: "A"},
			{minute, "", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"denied, nobody calls for 20 minutes": {slices.Concat(bridging, files), []step{held, {at: 30 * second, denied: "A", gets: "A"},
			{20 * minute, "", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"denied in a pause": {bridging, []step{held, {56 * minute, "", "A", 0, outage, "A", 10 * second, handler},
			{57 * minute, "", "A", 0, outage, "A", 20 * second, handler}, {57*minute + 30*second, "", "A", 0, outage, "A", 40 * second, handler},
			{58*minute + 30*second, "", "A", 0, outage, "A", 80 * second, handler},
			{59*minute + 50*second, "", "A", 0, outage, "A", 10 * second, handler}, {60 * minute, "", "A", 0, outage, "A", 10 * second, handler},
			{61 * minute, "", "A", 0, outage, "A", 20 * second, handler}, {62 * minute, "", "A", 0, outage, "A", 40 * second, handler},
			{63 * minute, "", "A", 0, outage, "A", 80 * second, handler}, {65 * minute, "", "A", 0, outage, "A", 160 * second, handler},
			{66 * minute, "A", "A", 0, lives("B", hour), "B", 45 * minute, ""}}},
		"older keys are denied":      {all, []step{held, {at: 2 * minute, denied: "older", gets: "A"}, {45 * minute, "", "A", 0, lives("B", 5*minute), "A", 10 * second, handler}}},
		"another identity, live":     {slices.Concat(sts, others), []step{held, {45 * minute, "", "A", 0, answer{keys: "B", life: hour, source: ec2rolecreds.ProviderName}, "A", 10 * second, handler}}},
		"another identity, ended":    {slices.Concat(sts, others), []step{held, {61 * minute, "", "", 0, answer{keys: "B", life: hour, source: endpointcreds.ProviderName}, "", 2 * second, callers}}},
		"another identity, denied":   {sts, []step{held, {2 * minute, "A", "A", 0, answer{keys: "B", life: hour, source: endpointcreds.ProviderName}, "A", 10 * second, handler}}},
		"another identity, bridged":  {sts, []step{held, bridged, {62 * minute, "", "A", 0, answer{keys: "B", life: hour, source: ec2rolecreds.ProviderName}, "", 2 * second, callers}}},
		"another source of the user": {all, []step{held, {45 * minute, "", "A", 0, answer{keys: "B", life: hour, source: "another"}, "B", 45 * minute, ""}}},
	}
	for name, test := range tests {
		for _, source := range test.sources {
			t.Run(name+", "+cmp.Or(source, "the user's own"), func(t *testing.T) { test.run(t, source) })
		}
	}
}

type test struct {
	sources []string
	steps   []step
}

func (c test) run(t *testing.T, source string) {
	var p policy
	start := time.Now()
	keys := func(name string) aws.Credentials { return aws.Credentials{AccessKeyID: name, SecretAccessKey: name} }
	for _, s := range c.steps {
		now := start.Add(s.at)
		if s.denied != "" {
			p.deny(now, keys(s.denied))
		}
		asks := s.brings != (answer{})
		if p.isDue(now) != asks {
			t.Fatalf("at %v: a retrieval is due: %v", s.at, !asks)
		}
		if asks {
			p.begin(now)
		}
		for _, older := range []aws.Credentials{
			{AccessKeyID: "older", SecretAccessKey: p.held.SecretAccessKey}, {AccessKeyID: p.held.AccessKeyID, SecretAccessKey: "older"},
			{AccessKeyID: p.held.AccessKeyID, SecretAccessKey: p.held.SecretAccessKey, SessionToken: "older"},
		} {
			if denied := p.denied; p.held.HasKeys() {
				if p.deny(now, older); p.isDue(now) || p.denied != denied {
					t.Fatalf("at %v: a denial of other keys counts", s.at)
				}
			}
		}
		wait := s.waits
		if s.gets == "" {
			wait = forever
		}
		if serve, waits := p.call(now); s.gets != "" && serve.AccessKeyID != s.gets || max(waits, 0) != wait {
			t.Errorf("at %v: a call is served %q after %v, want %q after %v", s.at, serve.AccessKeyID, waits, s.gets, wait)
		}
		if !asks {
			continue
		}
		if serve, _ := p.call(now); s.gets != "" && p.held.CanExpire && now.After(p.held.Expires) && serve.Expires.Before(wallClock(now.Add(2*time.Minute))) {
			t.Errorf("at %v: served until %v, want two minutes after the retrieval began or later", s.at, serve.Expires)
		}
		fresh := keys(s.brings.keys)
		fresh.Source = cmp.Or(s.brings.source, source)
		if s.brings.life != ever {
			fresh.CanExpire, fresh.Expires = true, wallClock(now.Add(s.brings.life))
		}
		problem := p.settle(now, fresh, s.brings.err, time.Second)
		serve, wait := p.call(now)
		told := ""
		switch {
		case wait == forever:
			serve = aws.Credentials{}
			told = callers
		case problem != nil:
			told = handler
		}
		if serve.AccessKeyID != s.then || p.due.Sub(now) != s.due || told != s.told {
			t.Errorf("at %v: then %q is served, the next retrieval is due in %v, and %q are told; want %q, %v and %q",
				s.at, serve.AccessKeyID, p.due.Sub(now), told, s.then, s.due, s.told)
		}
		if end := p.held.Expires; s.then != "" && p.held.CanExpire && !now.Before(end) {
			end = wallClock(p.due).Add(2 * time.Minute)
			if !serve.Expires.Equal(end) {
				t.Errorf("at %v: served until %v, want two minutes after the next retrieval is due", s.at, serve.Expires)
			}
		}
	}
}
