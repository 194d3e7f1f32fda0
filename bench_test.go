package bedrocktoken_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/bedrocktoken/bedrocktoken"
)

// floor returns what the SDK's signer does for the same URL.
func floor(b *testing.B) func() {
	request, err := http.NewRequest("POST", "https://bedrock.amazonaws.com/?Action=CallWithBearerToken&X-Amz-Expires=43200", nil)
	if err != nil {
		b.Fatal(err)
	}
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken}
	const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	return func() {
		if _, _, err := v4.NewSigner().PresignHTTP(b.Context(), creds, request, emptyHash, "bedrock", region, time.Now()); err != nil {
			b.Error(err)
		}
	}
}

func BenchmarkFloor(b *testing.B) { benchmark(b, floor(b)) }

func BenchmarkProvideToken(b *testing.B) {
	source := static(accessKeyID, secretKey, sessionToken)
	benchmark(b, func() {
		_, err := bedrocktoken.ProvideToken(b.Context(), bedrocktoken.WithRegion(region), bedrocktoken.WithCredentialsProvider(source))
		if err != nil {
			b.Error(err)
		}
	})
}

func BenchmarkProviderToken(b *testing.B) {
	creds := aws.Credentials{AccessKeyID: accessKeyID, SecretAccessKey: secretKey, SessionToken: sessionToken, CanExpire: true, Expires: time.Now().Add(time.Hour)}
	provider := newProvider(b, providers(creds)["raw"])
	benchmark(b, func() {
		if _, err := provider.Token(b.Context()); err != nil {
			b.Error(err)
		}
	})
}

// benchmark calls sign one after the other, from many goroutines, and in turn
// with the floor, so that their ratio is spared the machine's slower and faster
// spells.
func benchmark(b *testing.B, sign func()) {
	b.Run("serial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			sign()
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				sign()
			}
		})
	})
	b.Run("ratio", func(b *testing.B) {
		floor := floor(b)
		var ours, theirs time.Duration
		for b.Loop() {
			start := time.Now()
			floor()
			middle := time.Now()
			sign()
			theirs += middle.Sub(start)
			ours += time.Since(middle)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(float64(ours)/float64(theirs), "of-floor")
	})
}
