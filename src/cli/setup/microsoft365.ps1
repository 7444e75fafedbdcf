#Requires -Version 7.0
<#
.SYNOPSIS
Lets mailferry use some mailboxes of Microsoft 365, and no others.

.DESCRIPTION
Written by `mailferry setup`. Run it in Azure Cloud Shell (https://shell.azure.com, PowerShell) as an administrator of
applications and of Exchange. Run it with -WhatIf first: then it changes nothing, and says what it would do. Running it
again does only what is missing. What it does is recorded in a file beside it, and -Undo takes exactly that back.

Its last line is the application (client) id, for `client_id` in mailferry.toml.
#>
[CmdletBinding(SupportsShouldProcess)]
param(
    # The mailboxes that mailferry may use.
    [string[]] $Mailbox = @({mailboxes}),
    # The name of the app in Entra ID, and of its scope and role assignment in Exchange.
    [string] $Name = {name},
    # The application (client) id of an app that exists already; without it the app is found by its name, or registered.
    [string] $AppId = {app_id},
    # The app's certificate (base64 of DER). Its private key stays where mailferry runs. Empty if a person signs in.
    [string] $Certificate = {certificate},
    # Apps also read these mailboxes by IMAP.
    [bool] $Reading = {reading},
    # Takes back what an earlier run has done.
    [switch] $Undo
)

$ErrorActionPreference = 'Stop'
$signsInItself = $Certificate -ne ''
$role = 'Application SMTP.SendAsApp'
$assignment = "$Name SMTP.SendAsApp"
$exchangeOnline = '00000002-0000-0ff1-ce00-000000000000'
$graph = '00000003-0000-0000-c000-000000000000'

function Write-Step([string] $Text) { Write-Host "* $Text" }

# What was done, in order, so that -Undo takes back no more than that.
$recordFile = Join-Path $PSScriptRoot "$Name.done.json"
$record = @(if (Test-Path $recordFile) { Get-Content $recordFile -Raw | ConvertFrom-Json })
function Add-Record([string] $Kind, [string] $Value, [string] $Before = '') {
    if ($script:record | Where-Object { $_.Kind -eq $Kind -and $_.Value -eq $Value }) { return }
    $script:record += [pscustomobject]@{ Kind = $Kind; Value = $Value; Before = $Before }
    ConvertTo-Json -InputObject @($script:record) | Set-Content $recordFile -WhatIf:$false
}

# Sign in to Azure (Cloud Shell has done that already) and to Exchange Online.
if (-not (Get-AzContext)) { Connect-AzAccount -UseDeviceAuthentication -WhatIf:$false | Out-Null }
if (-not (Get-Module -ListAvailable ExchangeOnlineManagement)) {
    Install-Module ExchangeOnlineManagement -Scope CurrentUser -Force -WhatIf:$false
}
if (-not (Get-ConnectionInformation)) { Connect-ExchangeOnline -Device -ShowBanner:$false }
$tenant = (Get-AzContext).Tenant.Id

$app = if ($AppId) { Get-AzADApplication -ApplicationId $AppId } else {
    Get-AzADApplication -DisplayName $Name | Select-Object -First 1
}

# An app of this name without this certificate belongs to something else, such as mailferry on another machine.
$given = if ($signsInItself) {
    [System.Security.Cryptography.X509Certificates.X509Certificate2]::new([Convert]::FromBase64String($Certificate))
}
$known = if ($app -and $given) {
    Get-AzADAppCredential -ObjectId $app.Id | Where-Object {
        $identifier = $_.CustomKeyIdentifier
        $hex = if ($identifier) { [Convert]::ToHexString($identifier) }
        $text = if ($identifier) { [Convert]::ToBase64String($identifier) }
        $given.Thumbprint -in $hex, $text
    }
}
if ($app -and $given -and -not $known -and -not $AppId) {
    throw "There is an app $Name already, without this certificate. Use another -Name, or name the app with -AppId."
}

if ($Undo) {
    $left = @()
    for ($place = $record.Count - 1; $place -ge 0; $place--) {
        $step = $record[$place]
        if (-not $PSCmdlet.ShouldProcess($step.Value, "Take back: $($step.Kind)")) { continue }
        # A step that cannot be taken back does not stop the others.
        try {
            switch ($step.Kind) {
                'SMTP AUTH' {
                    $before = if ($step.Before) { [bool]::Parse($step.Before) }
                    Set-CASMailbox -Identity $step.Value -SmtpClientAuthenticationDisabled $before
                }
                'permission to read' {
                    Remove-MailboxPermission -Identity $step.Value -User $step.Before -AccessRights FullAccess -Confirm:$false
                }
                'grant' {
                    Remove-AzADServicePrincipalAppRoleAssignment -ServicePrincipalId $step.Before -AppRoleAssignmentId $step.Value
                }
                'role assignment' { Remove-ManagementRoleAssignment -Identity $step.Value -Confirm:$false }
                'scope' { Remove-ManagementScope -Identity $step.Value -Confirm:$false }
                'service principal in Exchange' { Remove-ServicePrincipal -Identity $step.Value -Confirm:$false }
                'delegated permission' {
                    Remove-AzADAppPermission -ObjectId $step.Before -ApiId $graph -PermissionId $step.Value
                }
                'enterprise application' { Remove-AzADServicePrincipal -ObjectId $step.Value }
                'certificate' { Remove-AzADAppCredential -ObjectId $step.Before -KeyId $step.Value }
                'app' { Remove-AzADApplication -ObjectId $step.Value }
            }
            Write-Step "Took back: $($step.Kind) $($step.Value)"
        } catch {
            Write-Warning "$($step.Kind) $($step.Value): $_"
            $left = @($step) + $left
        }
    }
    if ($WhatIfPreference) { return }
    if ($left) {
        ConvertTo-Json -InputObject $left | Set-Content $recordFile
        Write-Step 'What is left is above; run the script with -Undo again.'
    } elseif (Test-Path $recordFile) {
        Remove-Item $recordFile
        Write-Step 'Everything that was recorded is taken back.'
    } else {
        Write-Step "There is no record of an earlier run beside the script ($recordFile), so nothing was taken back."
    }
    return
}

# A wrong address stops the script before anything is changed.
$guids = @($Mailbox | ForEach-Object { (Get-Mailbox -Identity $_).Guid })

# Entra ID: the app, its certificate, and its enterprise application.
if (-not $app -and $PSCmdlet.ShouldProcess($Name, 'Register the app, for this tenant only')) {
    $app = if ($signsInItself) {
        New-AzADApplication -DisplayName $Name -SignInAudience AzureADMyOrg
    } else {
        New-AzADApplication -DisplayName $Name -SignInAudience AzureADMyOrg -IsFallbackPublicClient `
            -PublicClientRedirectUri 'http://localhost/callback'
    }
    Add-Record 'app' $app.Id
    Write-Step "Registered the app $Name."
}
# With -WhatIf there may be no app yet: then nothing of it exists, and all steps are shown.
if ($signsInItself) {
    if (-not $known -and $PSCmdlet.ShouldProcess($Name, "Add the certificate $($given.Thumbprint)")) {
        New-AzADAppCredential -ObjectId $app.Id -CertValue $Certificate `
            -CustomKeyIdentifier ([Convert]::ToBase64String($given.GetCertHash())) -EndDate $given.NotAfter |
            ForEach-Object { Add-Record 'certificate' $_.KeyId $app.Id }
        Write-Step 'Added the certificate.'
    }
}
$principal = if ($app) { Get-AzADServicePrincipal -ApplicationId $app.AppId }
if (-not $principal -and $PSCmdlet.ShouldProcess($Name, 'Create the enterprise application')) {
    $principal = New-AzADServicePrincipal -ApplicationId $app.AppId
    Add-Record 'enterprise application' $principal.Id
    Write-Step 'Created the enterprise application.'
}

# A person who signs in: the permission to send as that person, consented for the tenant.
if (-not $signsInItself) {
    # SMTP.Send and IMAP.AccessAsUser.All, found by their names.
    $wanted = @('SMTP.Send') + @(if ($Reading) { 'IMAP.AccessAsUser.All' })
    $scopes = (Get-AzADServicePrincipal -ApplicationId $graph).Oauth2PermissionScope
    $held = if ($app) { Get-AzADAppPermission -ObjectId $app.Id }
    foreach ($value in $wanted) {
        $id = ($scopes | Where-Object Value -eq $value).Id
        if ($held.Id -notcontains $id -and $PSCmdlet.ShouldProcess($Name, "Add the delegated permission $value")) {
            Add-AzADAppPermission -ObjectId $app.Id -ApiId $graph -PermissionId $id -Type Scope
            Add-Record 'delegated permission' $id $app.Id
        }
    }
    if ($app) {
        Write-Step 'An administrator consents for all users here, once:'
        Write-Host "  https://login.microsoftonline.com/$tenant/adminconsent?client_id=$($app.AppId)"
    }
}

# Exchange: the app may send as these mailboxes only (RBAC for Applications).
if ($signsInItself) {
    $inExchange = if ($app) { Get-ServicePrincipal -Identity $app.AppId -ErrorAction SilentlyContinue }
    if (-not $inExchange -and
        $PSCmdlet.ShouldProcess($Name, 'Make the app known to Exchange')) {
        # The object id of the enterprise application, not of the app registration.
        New-ServicePrincipal -AppId $app.AppId -ObjectId $principal.Id -DisplayName $Name | Out-Null
        Add-Record 'service principal in Exchange' $app.AppId
        Write-Step 'Made the app known to Exchange.'
    }
    $filter = ($guids | ForEach-Object { "Guid -eq '$_'" }) -join ' -or '
    if (Get-ManagementScope -Identity $Name -ErrorAction SilentlyContinue) {
        if ($PSCmdlet.ShouldProcess($Name, "Limit the scope to $($Mailbox -join ', ')")) {
            Set-ManagementScope -Identity $Name -RecipientRestrictionFilter $filter
        }
    } elseif ($PSCmdlet.ShouldProcess($Name, "Create a scope with $($Mailbox -join ', ')")) {
        New-ManagementScope -Name $Name -RecipientRestrictionFilter $filter | Out-Null
        Add-Record 'scope' $Name
        Write-Step "Created a scope with $($Mailbox -join ', ')."
    }
    if (-not (Get-ManagementRoleAssignment -Identity $assignment -ErrorAction SilentlyContinue) -and
        $PSCmdlet.ShouldProcess($Name, "Assign the role $role within the scope")) {
        New-ManagementRoleAssignment -Name $assignment -App $app.AppId -Role $role -CustomResourceScope $Name | Out-Null
        Add-Record 'role assignment' $assignment
        Write-Step "Assigned the role $role."
    }
    if ($Reading) {
        $api = Get-AzADServicePrincipal -ApplicationId $exchangeOnline
        $granted = if ($principal) { Get-AzADServicePrincipalAppRoleAssignment -ServicePrincipalId $principal.Id }
        foreach ($value in 'IMAP.AccessAsApp') {
            $id = ($api.AppRole | Where-Object Value -eq $value).Id
            if ($granted.AppRoleId -notcontains $id -and $PSCmdlet.ShouldProcess($Name, "Grant $value")) {
                New-AzADServicePrincipalAppRoleAssignment -ServicePrincipalId $principal.Id -ResourceId $api.Id -AppRoleId $id |
                    ForEach-Object { Add-Record 'grant' $_.Id $principal.Id }
            }
        }
        foreach ($address in $Mailbox) {
            if ($PSCmdlet.ShouldProcess($address, 'Let the app read this mailbox')) {
                Add-MailboxPermission -Identity $address -User $principal.Id -AccessRights FullAccess -AutoMapping $false | Out-Null
                Add-Record 'permission to read' $address $principal.Id
            }
        }
    }
}

# SMTP AUTH, on for these mailboxes only. OAuth needs it too.
foreach ($address in $Mailbox) {
    $before = (Get-CASMailbox -Identity $address).SmtpClientAuthenticationDisabled
    if ($before -ne $false -and
        $PSCmdlet.ShouldProcess($address, 'Switch on SMTP AUTH')) {
        Set-CASMailbox -Identity $address -SmtpClientAuthenticationDisabled $false
        # Empty if the mailbox had the tenant's setting.
        Add-Record 'SMTP AUTH' $address "$before"
        Write-Step "Switched on SMTP AUTH for $address."
    }
}

if ($signsInItself -and -not $WhatIfPreference) {
    foreach ($address in $Mailbox) {
        Test-ServicePrincipalAuthorization -Identity $app.AppId -Resource $address |
            Format-Table RoleName, GrantedPermissions, AllowedResourceScope, InScope | Out-Host
    }
    Write-Step 'Exchange may take up to two hours to apply this: `mailferry test --wait` waits for it.'
}
Write-Step "Tenant: $tenant"
if ($app) { Write-Step "Application (client) id: $($app.AppId)" }
