// Package bedrocktoken creates short-term Amazon Bedrock API keys from AWS
// credentials. Such a key is a bearer token, called a token here, for clients that can
// send an Authorization header but cannot sign.
//
// [Provider.Transport] sends one with each request of an [http.Client], for as long
// as the program runs. [Provider.Token] returns one for other clients.
// [ProvideToken] is for programs that end before their token does.
//
// # Tokens
//
// A token is a presigned request for bedrock:CallWithBearerToken. Signing is local:
// only retrieving credentials uses the network. A token is valid in one region, for
// at most 12 hours, and no longer than the credentials that signed it, often an hour.
// It cannot be renewed or individually revoked.
//
// It carries the permissions of the identity that signed it. The identity needs
// bedrock:CallWithBearerToken (bedrock-mantle:CallWithBearerToken for bedrock-mantle)
// besides the actions it calls: see AWS on [API keys].
//
// AWS's SDKs sign requests and need no token. Agents, AgentCore, Data Automation and
// InvokeModelWithBidirectionalStream accept none.
//
// # Region and credentials
//
// The region is that of [WithRegion] or else the first of AWS_REGION,
// AWS_DEFAULT_REGION and the profile's region. The credentials are those of
// [WithCredentialsProvider] or else the first that the SDK's default chain finds:
//
//  1. The environment, unless [WithProfile] is given: AWS_ACCESS_KEY_ID and
//     AWS_SECRET_ACCESS_KEY (until AWS_CREDENTIAL_EXPIRATION, if set), or web identity.
//  2. The profile: keys, a role (for an hour, or its duration_seconds), IAM Identity
//     Center, aws login, or a credential_process.
//  3. The role of the container, then that of the EC2 instance.
//
// NewProvider fixes the region and the profile. All else, such as replaced keys, is
// read again for each retrieval. The chain's requests time out after 10 seconds and
// are retried. AWS_BEARER_TOKEN_BEDROCK is not read.
//
// # Renewal
//
// Normally credentials are renewed in the background before they expire, and calls
// do not wait. What a call gets depends on the held credentials, the last ones taken:
//
//	bridged (see Trouble)     it is served at once
//	more than a minute left   it is served at once
//	in their last minute      it waits for the retrieval under way, until that is a second
//	                          old or half of ctx's time is gone, and is served if they
//	                          are still good
//	expired, or none          it waits for the retrieval under way; if that fails it gets
//	                          the error, as do others until the next is due
//
// The next call, 401 or 403 starts a due retrieval, in the background. One is due when
// the held credentials expire, or sooner if the last
//
//	brought credentials              once in their advisory window and 10 seconds old
//	failed, and calls are served     after 10 seconds, then 20, up to 5 minutes
//	failed, with nothing to serve    after 1 to 5 seconds, at random
//
// The advisory window depends on what the credentials have left when they come:
//
//	up to 20 minutes        the last half, at least 1 and at most 5 minutes
//	less than 90 minutes    the last 15 minutes
//	more                    the last hour
//
// Those without an expiry are retrieved again after 5 minutes, unless a
// StaticCredentialsProvider or a credential_process gave them.
//
// One retrieval runs at a time, for a minute at most. Nothing runs in between: a
// Provider needs no closing. The rules follow what AWS has specified for its
// SDKs ([Java], [Rust], [Python]).
//
// # Trouble
//
// A retrieval fails by an outage, and its error is an [ErrOutage], if the source
//   - does not answer, or breaks off,
//   - answers with status 429 or 5xx, or a code that asks to try again,
//   - can be bridged and gives expired credentials.
//
// After any other failure a person may have to act.
//
// From an outage until the next retrieval ends, held credentials that can be bridged
// are served even if they have expired, and Bedrock accepts or refuses them. AWS calls
// this static stability. RetrieveBearerToken then reports the later of their expiry and
// two minutes after the next retrieval is due. If no retrieval began by then, calls
// wait as in the last minute.
//
// A retrieval also fails if it brings other credentials that expire sooner than the
// held ones, or those of the machine (EC2, container) in place of others: the SDK
// takes the machine's if files are missing. A restart takes either.
//
// If Bedrock answers 401 or 403 through [Provider.Transport], a retrieval is due, at
// least a minute after the last. It may bring an earlier expiry.
//
// What holds for credentials, by their Source:
//
//	                                 can be    retrieved after
//	                                 bridged   401 and 403
//	EC2, container, role, web
//	identity, IAM Identity Center,
//	aws login                        yes       yes
//	keys in environment or files     no        yes
//	credential_process, your own     no        no
//
// aws login and an [aws.CredentialsCache] (even after a 403) give new ones only at the
// expiry. Calls wait then.
//
// [API keys]: https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys.html
// [Java]: https://github.com/aws/aws-sdk-java-v2/pull/7109
// [Rust]: https://github.com/smithy-lang/smithy-rs/pull/4796
// [Python]: https://github.com/boto/botocore/pull/3760
package bedrocktoken
