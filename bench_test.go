package bedrocktoken_test

import (
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/bedrocktoken/bedrocktoken"
)

// A floor is what the SDK's signer does for the same URL.
func floor(b *testing.B, creds aws.Credentials) func() {
	request, err := http.NewRequest("POST", "https://bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Expires=43200", nil)
	if err != nil {
		b.Fatal(err)
	}
	const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	return func() {
		if _, _, err := v4.NewSigner().PresignHTTP(b.Context(), creds, request, emptyHash, "bedrock", region, time.Now()); err != nil {
			b.Error(err)
		}
	}
}

func BenchmarkFloor(b *testing.B) { benchmark(b, floor) }

// One token for a short run, everything given.
func BenchmarkProvideToken(b *testing.B) {
	benchmark(b, func(b *testing.B, creds aws.Credentials) func() {
		creds.CanExpire = false
		source := bedrocktoken.WithCredentialsProvider(credentials.StaticCredentialsProvider{Value: creds})
		return func() {
			if _, err := bedrocktoken.ProvideToken(b.Context(), bedrocktoken.WithRegion(region), source); err != nil {
				b.Error(err)
			}
		}
	})
}

// A call at load: many in each second.
func BenchmarkProviderToken(b *testing.B) {
	benchmark(b, func(b *testing.B, creds aws.Credentials) func() {
		provider := newProvider(b, sources(creds)["raw"])
		return func() {
			if _, err := provider.Token(b.Context()); err != nil {
				b.Error(err)
			}
		}
	})
}

// What a service of many tenants pays for each: a Provider of its own that has
// made a token, with its tenant's credentials.
func BenchmarkTenants(b *testing.B) {
	const tenants = 10_000
	heap := func() float64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return float64(stats.HeapAlloc)
	}
	var bytes, goroutines float64
	for b.Loop() {
		providers := make([]*bedrocktoken.Provider, tenants)
		before, running := heap(), runtime.NumGoroutine()
		for i := range providers {
			creds := aws.Credentials{
				AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: strings.Repeat("a/b+", 175),
				CanExpire: true, Expires: time.Now().Add(time.Hour),
			}
			providers[i] = newProvider(b, sources(creds)["raw"])
			tokenOf(b, providers[i])
		}
		bytes += heap() - before
		goroutines += float64(runtime.NumGoroutine() - running)
		runtime.KeepAlive(providers)
	}
	b.ReportMetric(bytes/float64(b.N*tenants), "B/tenant")
	b.ReportMetric(goroutines/float64(b.N*tenants), "goroutines/tenant")
}

// benchmark calls what setup returns one after the other, and from many
// goroutines, each in turn with the floor so that the ratio is spared the
// machine's slower and faster spells. The sub-benchmarks are for credentials
// with a short session token, and with one as long as a role's.
func benchmark(b *testing.B, setup func(*testing.B, aws.Credentials) func()) {
	for name, length := range map[string]int{"short": 24, "role": 700} {
		b.Run(name, func(b *testing.B) {
			creds := aws.Credentials{
				AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: strings.Repeat("a/b+", length/4),
				CanExpire: true, Expires: time.Now().Add(time.Hour),
			}
			call, floor := setup(b, creds), floor(b, creds)
			b.Run("serial", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					call()
				}
			})
			b.Run("ratio", func(b *testing.B) { ratio(b, call, floor, serially) })
			b.Run("ratio-parallel", func(b *testing.B) { ratio(b, call, floor, inParallel) })
		})
	}
}

// ratio reports the time that call takes as a fraction of the floor's.
func ratio(b *testing.B, call, floor func(), run func(call func())) {
	var ours, theirs time.Duration
	for b.Loop() {
		start := time.Now()
		run(floor)
		middle := time.Now()
		run(call)
		theirs += middle.Sub(start)
		ours += time.Since(middle)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(ours)/float64(theirs), "of-floor")
}

const batch = 100 // calls, so that reading the clock does not count

func serially(call func()) {
	for range batch {
		call()
	}
}

func inParallel(call func()) {
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() { serially(call) })
	}
	group.Wait()
}
