// Package bedrocktoken makes short-term Amazon Bedrock API keys: bearer tokens
// that stand in for a SigV4 signature where a client can only send an
// Authorization header.
//
// A token is a presigned request for bedrock:CallWithBearerToken. Signing one is
// local: only fetching the credentials may need the network. [ProvideToken] makes a single token; a
// service that runs for longer than a token lives keeps a [Provider], which
// signs a fresh one on every call, or gives [Provider.Transport] to its
// [net/http.Client]:
//
//	provider, err := bedrocktoken.NewProvider(ctx, bedrocktoken.WithRegion("us-east-1"))
//	if err != nil {
//		log.Fatal(err)
//	}
//	client := &http.Client{Transport: provider.Transport(nil)}
//
// # Lifetime
//
// A token is good for 12 hours, or for what [WithExpiry] says, but never for
// longer than the credentials that signed it: with those of an assumed role,
// usually an hour. It cannot be renewed and cannot be revoked by itself. It is
// good in the region that it was signed for and carries the permissions of the
// identity behind the credentials, which needs bedrock:CallWithBearerToken
// besides the actions that it calls (bedrock-mantle:CallWithBearerToken for the
// bedrock-mantle endpoint).
//
// # Who should use something else
//
// The AWS SDK's own clients sign every request with the credentials at hand and
// need no token. Amazon Bedrock Agents, Data Automation and
// InvokeModelWithBidirectionalStream do not accept one.
//
// The facts about AWS are from its user guide, [API keys] and [permissions],
// and from the generators that AWS publishes for Python, Java and JavaScript.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [permissions]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-permissions.html
package bedrocktoken
